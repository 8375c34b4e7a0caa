"""Accounts of a fleet: passwords, and what mosquitto and RabbitMQ read of them, from one inventory."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgesem.errors import InputError, UsageError
from edgesem.packet.keys import read_secret, write_private
from runtime.daemon.accounts import PASSWORD_BYTES, Account, acl, topic_rules
from runtime.fleet.inventory import Inventory
from runtime.protocol.topics import from_file_name, to_file_name

_SUFFIX = ".password"
_ITERATIONS = 101
"""Of PBKDF2, as mosquitto_passwd has them: more do not matter to passwords of 24 random bytes."""
_VHOST = "/"
_QUEUE_EXPIRES_MS, _QUEUE_BYTES = 60_000, 64 << 20
"""Of what RabbitMQ holds for a client: how long without it, and how much."""


def write_accounts(inventory: Inventory, folder: Path, rotate: Collection[str] = ()) -> dict[str, Any]:
    """Write passwords and the brokers' files below `folder`; what was done, for `edgesem fleet accounts`.

    `passwords/NAME.password` stays where it is there, but for the accounts in `rotate` (all of them for `all`).
    `mosquitto.passwords`, `mosquitto.acl` and `rabbitmq.json` are made anew. All are readable by their owner alone.
    Raises UsageError for an unknown account in `rotate`, InputError for a folder that cannot be written.
    """
    accounts = inventory.accounts
    names = {account.name for account in accounts}
    if unknown := sorted(set(rotate) - names - {"all"}):
        raise UsageError(f"--rotate {unknown[0]}: the inventory has no such account")
    home = folder / "passwords"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = []
        for name in sorted(names):
            path = home / f"{to_file_name(name)}{_SUFFIX}"
            if name in rotate or "all" in rotate or not path.exists():
                _replace(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
                new.append(name)
        passwords = {name: _password(home / f"{to_file_name(name)}{_SUFFIX}") for name in names}
        files = {
            "mosquitto_passwords": (folder / "mosquitto.passwords", _mosquitto(passwords)),
            "mosquitto_acl": (folder / "mosquitto.acl", acl(accounts, {}, by_certificate=False)),
            "rabbitmq": (folder / "rabbitmq.json", json.dumps(_rabbitmq(accounts, passwords), indent=1) + "\n"),
        }
        for path, text in files.values():
            _replace(path, text)
        found = (from_file_name(path.name.removesuffix(_SUFFIX)) for path in home.glob(f"*{_SUFFIX}"))
        gone = sorted(name for name in found if name is not None and name not in names)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return {
        "folder": str(folder),
        "accounts": len(accounts),
        "new": new,
        "gone": gone,
        "files": {kind: str(path) for kind, (path, _) in files.items()},
    }


def _password(path: Path) -> str:
    return read_secret(path, "") or ""


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
