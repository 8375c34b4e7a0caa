"""Credentials file: the login that `edgesem broker` leaves for commands of the same user on the same machine.

It is `brokers/PORT.json` in the user's state folder ($XDG_STATE_HOME/edgesem, else ~/.local/state/edgesem), readable by
its owner alone, and is there while the broker runs. A client of a loopback address without a user looks for it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgesem.packet.keys import write_private
from runtime.mqtt.address import Address

log = logging.getLogger(__name__)

_MAX_BYTES = 4096
_LISTENING = "0A"  # state of a socket in /proc/net/tcp


@contextlib.contextmanager
def published_login(port: int, user: str, password: str) -> Iterator[Path | None]:
    """Leave the login of the broker on `port` while the block runs; yields the file, None if none can be written."""
    path = _path(port)
    try:
        if path is None:
            raise OSError("the user has no home folder")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a broker that was killed
        write_private(path, json.dumps({"port": port, "user": user, "password": password}) + "\n")
    except OSError as error:
        log.warning(
            "local commands cannot find the login by themselves (%s: %s): name --user, --password-file", path, error
        )
        yield None
        return
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def with_local_login(address: Address) -> Address:
    """`address` with the login of the broker that this user runs there; as it is if it has a login, or there is none.

    The password is given only to a socket that the file's owner listens on: when the broker is gone, another user of
    this machine may listen on its port.
    """
    if address.user is not None or address.password is not None or address.cert_file is not None:
        return address
    path = _path(address.port) if is_loopback(address.host) else None
    if path is None:
        return address
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077 or status.st_uid != os.geteuid() or not _listens(address.port, status.st_uid):
                return address
            found = json.loads(file.read(_MAX_BYTES))
        return replace(address, user=str(found["user"]), password=str(found["password"]))
    except (OSError, ValueError, KeyError, TypeError):
        return address


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _path(port: int) -> Path | None:
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:  # a service without a home
        return None
    return Path(state) / "edgesem" / "brokers" / f"{port}.json"


def _listens(port: int, uid: int) -> bool:
    """Whether a socket of this user listens on the port, and of nobody else; True where the system does not tell."""
    owners = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, owner, *_ = line.split()
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                owners.add(int(owner))
    return owners == {uid} or not Path("/proc/net/tcp").exists()
