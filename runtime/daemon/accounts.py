"""Accounts of `edgesem broker`: who may log in, and which topics each may use.

`accounts.json` holds roles and streams, `accounts/NAME.password` the password, both in the broker's folder and closed
to other users. A running broker takes up a change within a second.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgesem.errors import InputError, UsageError
from edgesem.files import write_whole
from edgesem.packet.keys import read_secret, write_private
from runtime.protocol.topics import to_file_name

LOCAL_USER = "edgesem"
"""The user that the broker makes by itself; it may do everything."""
PASSWORD_BYTES = 24
_MAX_BYTES = 1 << 20
LONGEST_NAME = 64

# What each role may do below the base of its streams, and beside them.
_DEVICE = (
    *(("write", "pkt/+"), ("readwrite", "birth"), ("readwrite", "state")),
    *(("read", "ack"), ("read", "cmd")),
)
_RECEIVER = (
    *(("read", "pkt/+"), ("read", "birth"), ("read", "state")),
    *(("readwrite", "ack"), ("write", "cmd")),  # reads, for `edgesem fleet plan`
    *(("readwrite", "jpeg"), ("readwrite", "availability"), ("readwrite", "event")),
)
_VIEWER = (("read", "jpeg"), ("read", "state"), ("read", "availability"), ("read", "event"))
_HOME_ASSISTANT = ("readwrite", "homeassistant/#")
ROLES = ("device", "receiver", "viewer", "admin")


@dataclass(frozen=True)
class Account:
    """One account: its name, its role, and the streams (SITE/DEVICE/STREAM, + for any name) that the role is for.

    device: publishes its packets, birth and state, and reads acknowledgements and commands. receiver: reads streams and
    acknowledgements, acknowledges, commands, and publishes pictures and Home Assistant's discovery. viewer: reads those
    pictures, as Home Assistant does. admin: everything.
    """

    name: str
    role: str
    streams: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME or set(self.name) & set(":/+#") or not _plain(self.name):
            raise UsageError(f"account {self.name[:80]!r}: 1 to {LONGEST_NAME} printable characters, none of : / + #")
        if self.role not in ROLES:
            raise UsageError(f"role {self.role!r} is none of {', '.join(ROLES)}")
        for stream in self.streams:
            parts = stream.split("/")
            if len(parts) != 3 or not all(part and (part == "+" or not set(part) & set("+#")) for part in parts):
                raise UsageError(f"{stream!r} are no streams: write SITE/DEVICE/STREAM, + for any name")
            if not _plain(stream):
                raise UsageError(f"{stream!r} has characters that cannot be printed")

    def rules(self) -> list[str]:
        """The account's lines in mosquitto's ACL file."""
        if self.role == "admin":
            return everything(self.name)
        return [f"user {self.name}", *(f"topic {access} {topic}" for access, topic in topic_rules(self))]


def topic_rules(account: Account) -> list[tuple[str, str]]:
    """What an account that is no admin may do: read, write or readwrite, and a filter of topics."""
    allowed = {"device": _DEVICE, "receiver": _RECEIVER, "viewer": _VIEWER}[account.role]
    rules = [(access, f"edgesem/v1/{stream}/{rest}") for stream in account.streams for access, rest in allowed]
    return rules if account.role == "device" else [*rules, _HOME_ASSISTANT]


def everything(name: str) -> list[str]:
    """ACL lines of a user who may do everything."""
    return [f"user {name}", "topic readwrite #", "topic read $SYS/#"]


class Accounts:
    """Accounts in the folder of a broker, usually `STATE/broker`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "accounts.json"

    def all(self) -> list[Account]:
        """The accounts by name; none if nobody made any. InputError for a file that holds no accounts."""
        try:
            with self._file.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read {self._file}: {error.strerror}") from error
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError("it is too large")
            rows = json.loads(data)
            return [Account(row["name"], row["role"], tuple(row["streams"])) for row in rows]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self._file} does not hold accounts: {error}; restore it, or add them anew") from error

    def add(self, account: Account) -> Path:
        """Add an account with a new password; returns the file of the password. UsageError if the name is taken."""
        known = self.all()
        if account.name == LOCAL_USER or any(one.name == account.name for one in known):
            raise UsageError(f"there is an account {account.name} already: remove it first, or name another")
        path = self.password_file(account.name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of an account that was not added in the end
            write_private(path, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
            self._write([*known, account])
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return path

    def remove(self, name: str) -> None:
        """Remove an account and its password. UsageError if there is none of that name."""
        known = self.all()
        if not any(one.name == name for one in known):
            have = ", ".join(one.name for one in known) or "there are none"
            raise UsageError(f"no account {name!r}; accounts: {have}")
        self._write([one for one in known if one.name != name])
        self.password_file(name).unlink(missing_ok=True)

    def password_file(self, name: str) -> Path:
        """Where an account's password is; the same file is --password-file of its client."""
        return self._folder / "accounts" / f"{to_file_name(name)}.password"

    def passwords(self) -> dict[str, str]:
        """Passwords by name. InputError, UsageError if a file is missing or damaged."""
        return {one.name: read_secret(self.password_file(one.name), "") or "" for one in self.all()}

    def stamp(self) -> tuple[int, int]:
        """Something that changes with the accounts."""
        return stamp_of(self._file)

    def _write(self, accounts: Iterable[Account]) -> None:
        rows = [asdict(account) for account in sorted(accounts, key=lambda one: one.name)]
        write_whole(self._file, (json.dumps(rows, indent=1) + "\n").encode())
        self._file.chmod(0o600)


def stamp_of(file: Path) -> tuple[int, int]:
    """Something that changes with a file."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def acl(accounts: Iterable[Account], users: Mapping[str, str], *, by_certificate: bool) -> str:
    """Mosquitto's ACL file: accounts by their roles, and the broker's other users everything.

    by_certificate: clients have certificates instead of passwords. Then everybody who has one may do everything, until
    the first account is made; from then on the accounts alone, by the certificate's common name.
    """
    known = list(accounts)
    if by_certificate and not known:
        return "pattern readwrite #\n"
    lines: list[str] = []
    for user in sorted(users.keys() - {one.name for one in known}):
        lines += everything(user)
    for account in known:
        lines += account.rules()
    return "\n".join(lines) + "\n"


def _plain(text: str) -> bool:
    return text.isprintable() and text == text.strip()
