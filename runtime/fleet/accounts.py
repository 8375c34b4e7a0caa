"""Accounts of a fleet: passwords, and what mosquitto and RabbitMQ read of them, from one inventory."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgesem.errors import InputError, UsageError
from edgesem.packet.keys import read_secret, write_private
from runtime.daemon.accounts import LONGEST_NAME, PASSWORD_BYTES, Account, acl, topic_rules
from runtime.fleet.inventory import Inventory
from runtime.protocol.topics import from_file_name, to_file_name

_SUFFIX = ".password"
_LATER = re.compile(r"(.+)@(\d{1,6})")
_MAX_BYTES = 16 << 20
_ITERATIONS = 101
"""Of PBKDF2, as mosquitto_passwd has them: more do not matter to passwords of 24 random bytes."""
_VHOST = "/"
_QUEUE_EXPIRES_MS, _QUEUE_BYTES = 60_000, 64 << 20
"""Of what RabbitMQ holds for a client: how long without it, and how much."""


def write_accounts(
    inventory: Inventory, folder: Path, rotate: Collection[str] = (), retire: Collection[str] = ()
) -> dict[str, Any]:
    """Write passwords and the brokers' files below `folder`; what was done, for `edgesem fleet accounts`.

    `passwords/NAME.password` stays where it is there. An account in `rotate` (`all`: each) gets a second login
    beside the one that it has: NAME@2, then NAME@3, with the same rights. The earlier one goes once the later is in
    `proven.json`, where `edgesem device login` notes what a board was seen with, or if the account is in `retire`.
    `mosquitto.passwords`, `mosquitto.acl`, `rabbitmq.json` and `logins.json`, the logins that no board was seen with,
    are made anew. All are readable by their owner alone. Raises UsageError for an unknown account, InputError for a
    folder that cannot be read or written.
    """
    names = {account.name for account in inventory.accounts}
    for option, given in (("rotate", rotate), ("retire", retire)):
        if unknown := sorted(set(given) - names - {"all"}):
            raise UsageError(f"--{option} {unknown[0]}: the inventory has no such account")
    if ill := sorted(name for name in names if _LATER.fullmatch(name)):
        raise UsageError(f"account {ill[0]}: a name that ends like this is one of a second login; rename the device")
    if ill := sorted(name for name in names if (name in rotate or "all" in rotate) and not _has_room(name)):
        raise UsageError(f"account {ill[0]}: its name is too long for a second login; rename it, or rotate others")
    home = folder / "passwords"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        proven = _proven(folder / "proven.json")
        logins, new, waiting, removed = [], [], [], []
        for account in inventory.accounts:
            name = account.name
            known = _logins(home, name)
            if name in retire or "all" in retire or (known[-1:] and known[-1] in proven):
                removed += known[:-1]
                known = known[-1:]
            if not known or name in rotate or "all" in rotate:
                if len(known) > 1:  # of which boards use which?
                    waiting.append(name)
                else:
                    known.append(_next(name, known))
                    new.append(known[-1])
                    _replace(_file(home, known[-1]), secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
            logins += [replace(account, name=login) for login in known]
        passwords = {one.name: read_secret(_file(home, one.name), "") or "" for one in logins}
        newest = {device.account.name: f"{device.site}/{device.name}" for device in inventory.devices}
        unseen = {
            newest[_first(one.name)]: f"{one.name}:{passwords[one.name]}"  # the later ones come last
            for one in logins
            if _first(one.name) in newest and one.name not in proven
        }
        files = {
            "mosquitto_passwords": (folder / "mosquitto.passwords", _mosquitto(passwords)),
            "mosquitto_acl": (folder / "mosquitto.acl", acl(logins, {}, by_certificate=False)),
            "rabbitmq": (folder / "rabbitmq.json", json.dumps(_rabbitmq(logins, passwords), indent=1) + "\n"),
            "logins": (folder / "logins.json", json.dumps(unseen, indent=1) + "\n"),
        }
        for path, text in files.values():
            _replace(path, text)
        for login in removed:
            _file(home, login).unlink(missing_ok=True)
        found = (from_file_name(path.name.removesuffix(_SUFFIX)) for path in home.glob(f"*{_SUFFIX}"))
        gone = sorted(name for name in found if name is not None and _first(name) not in names)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return {
        "folder": str(folder),
        "accounts": len(names),
        "new": sorted(new),
        "waiting": sorted(waiting),
        "removed": sorted(removed),
        "gone": gone,
        "files": {kind: str(path) for kind, (path, _) in files.items()},
    }


def _has_room(name: str) -> bool:
    """Whether a later login of an account is a name of an account, and is known again by that of its file."""
    last = f"{name}@999999"
    return len(last) <= LONGEST_NAME and from_file_name(to_file_name(last)) is not None


def _first(login: str) -> str:
    """The account of a login."""
    return _LATER.sub(r"\1", login)


def _next(name: str, known: Sequence[str]) -> str:
    """The login that comes after those of an account."""
    return f"{name}@{_number(known[-1]) + 1}" if known else name


def _number(login: str) -> int:
    found = _LATER.fullmatch(login)
    return int(found[2]) if found else 1


def _file(home: Path, login: str) -> Path:
    return home / f"{to_file_name(login)}{_SUFFIX}"


def _logins(home: Path, name: str) -> list[str]:
    """The logins of an account that have a password, the earliest first."""
    found = (from_file_name(path.name.removesuffix(_SUFFIX)) for path in home.glob(f"{to_file_name(name)}*{_SUFFIX}"))
    first = [name] if _file(home, name).exists() else []
    later = {login for login in found if login is not None and login != name and _first(login) == name}
    return [*first, *sorted(later, key=_number)]


def _proven(path: Path) -> frozenset[str]:
    """The logins that boards were seen with. InputError for a file that is damaged: nothing goes on its word then."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        found = json.loads(data) if len(data) <= _MAX_BYTES else None
    except FileNotFoundError:
        return frozenset()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(f"{path} does not hold a list of logins: remove it, and bring the logins to the boards again")
    return frozenset(found)


def _replace(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, in place of the one that is there."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    write_private(new, text)
    new.replace(path)


def _mosquitto(passwords: Mapping[str, str]) -> str:
    """Mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it."""
    lines = []
    for name, password in sorted(passwords.items()):
        salt = secrets.token_bytes(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
        lines.append(f"{name}:$7${_ITERATIONS}${b64encode(salt).decode()}${b64encode(digest).decode()}\n")
    return "".join(lines)


def _rabbitmq(accounts: Collection[Account], passwords: Mapping[str, str]) -> dict[str, Any]:
    """RabbitMQ's definitions: users, and which topics each may publish on and subscribe to.

    Its MQTT plugin checks a topic, or a filter, with dots in place of slashes and * in place of +.
    """
    users, permissions, topic_permissions = [], [], []
    own = "^mqtt-subscription-"
    both = rf"{own}|^amq\.topic$"
    for account in accounts:
        salt = secrets.token_bytes(4)
        digest = hashlib.sha256(salt + passwords[account.name].encode()).digest()
        users.append(
            {
                "name": account.name,
                "password_hash": b64encode(salt + digest).decode(),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
        )
        about = {"user": account.name, "vhost": _VHOST}
        permissions.append({**about, "configure": own, "write": both, "read": both})
        rules = {access: "|".join(_patterns(account, access)) for access in ("read", "write")}
        topic_permissions.append({**about, "exchange": "amq.topic", **rules})
    # The queue of a client that went on at another node when this one died would fill for ever.
    limits = {"expires": _QUEUE_EXPIRES_MS, "max-length-bytes": _QUEUE_BYTES}
    policy = {"vhost": _VHOST, "name": "edgesem-subscriptions", "pattern": own, "apply-to": "queues"}
    return {
        "vhosts": [{"name": _VHOST}],
        "policies": [{**policy, "definition": limits, "priority": 0}],
        "users": users,
        "permissions": permissions,
        "topic_permissions": topic_permissions,
    }


def _patterns(account: Account, access: str) -> Iterator[str]:
    """Regular expressions of the routing keys that an account may read, or write."""
    for allowed, topic in topic_rules(account):
        if allowed in (access, "readwrite"):
            parts = topic.split("/")
            rest = [".*" if part == "#" else "[^.]+" if part == "+" else re.escape(part) for part in parts]
            yield "^" + r"\.".join(rest) + "$"
    if access == "read":
        yield r"^edgesem\.v1\.none$"  # the filter by which clients measure round trips
