"""Setup of one board: what the file of `edgesem device card` and `edgesem device jetson` says, checked."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devices.board import Board
from devices.provision.choices import check_country, check_timezone, check_user
from devices.provision.daemon_settings import check_settings
from devices.provision.template import BLANKS
from edgesem.config import load_config, read_toml
from edgesem.errors import InputError, UsageError, require

ETC = "/etc/edgesem/"
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HASH = re.compile(r"\$(y|gy|7|2[aby]|6|5)\$[./A-Za-z0-9$=,]{20,200}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ECDSA = tuple(f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521))
_KEY_KINDS = ("ssh-ed25519", "ssh-rsa", *_ECDSA, "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")
_MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True)
class User:
    """First user of the system."""

    name: str = "edge"
    ssh_keys: tuple[str, ...] = ()
    """Public keys, or files that hold one each."""
    password_hash: str = ""
    """As `mkpasswd` or `openssl passwd -6` makes it; empty: the key is the only way in."""


@dataclass(frozen=True)
class Wifi:
    """Wi-Fi network to join; an empty `ssid` means none."""

    ssid: str = ""
    password: str = ""
    password_file: str = ""
    country: str = ""
    """Two letters; the radio stays off without."""
    hidden: bool = False


@dataclass(frozen=True)
class Setup:
    """Setup of one card: [user], [wifi], [send] or [receive] as the daemon's own file has it, [files]."""

    hostname: str = ""
    timezone: str = "UTC"
    user: User = field(default_factory=User)
    wifi: Wifi = field(default_factory=Wifi)
    etc: Mapping[str, bytes] = field(default_factory=dict)
    """Name below /etc/edgesem -> content."""

    @classmethod
    def read(cls, path: Path, board: Board) -> Setup:
        """The setup in a TOML file, checked; paths in it are relative to its folder."""
        if not path.exists():
            raise InputError(f"{path} does not exist: `edgesem device card --template > {path}` makes one to fill in")
        tree = read_toml(path)
        sections = {name: tree.pop(name, None) for name in ("send", "receive", "files")}
        if "etc" in tree:
            raise UsageError(f"{path}: unknown key etc: files go into [files]")
        try:
            _check_filled_in({**tree, **sections})
            setup = load_config(None, cls, tree)
            return _checked(replace(setup, etc=_etc(sections, path.parent, board)), path.parent)
        except UsageError as error:
            raise UsageError(f"{path}: {str(error).removeprefix('command line: ')}") from error


def _check_filled_in(tree: Any, name: str = "") -> None:
    """UsageError where a value still is what the template has for somebody to fill in."""
    if isinstance(tree, str) and tree in BLANKS:
        raise UsageError(f"{name} is {tree!r} as in the template: fill it in, or delete it")
    if isinstance(tree, dict):
        for key, value in tree.items():
            _check_filled_in(value, f"{name}.{key}".removeprefix("."))
    if isinstance(tree, list):
        for value in tree:
            _check_filled_in(value, name)


def _etc(sections: Mapping[str, Any], folder: Path, board: Board) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name in ("send", "receive", "files"):
        if not isinstance(sections[name], (dict, type(None))):
            raise UsageError(f"{name} must be a section [{name}]")
    send = sections["send"]
    if send is not None:
        # What the board's file knows better than a default: its camera connector and its cores.
        for name in ("source", "stream"):
            if not isinstance(send.get(name, {}), dict):
                raise UsageError(f"send.{name} must be a section [send.{name}]")
        source, stream = dict(send.get("source", {})), dict(send.get("stream", {}))
        source.setdefault("uri", board.camera.source)
        stream.setdefault("threads", board.run.threads)
        send = {**send, "source": source, "stream": stream}
    for name, tables in (("send", send), ("receive", sections["receive"])):
        if tables is not None:
            check_settings(name, tables)
            files[f"{name}.toml"] = require("tomli_w", "devices").dumps(tables).encode()
    if not files:
        raise UsageError("neither [send] nor [receive] is there, so the board would do nothing: add one")
    for name, source_name in (sections["files"] or {}).items():
        if not _FILE.fullmatch(name) or name in files:
            raise UsageError(f"[files] {name!r} is no name for a file in {ETC}")
        files[name] = _read(folder / str(source_name))
    for match in re.findall(rb'"/etc/edgesem/([^"]+)"', b"".join(files.values())):
        if match.decode() not in files:
            raise UsageError(f"{ETC}{match.decode()} is named, but not brought: add it to [files]")
    return files


def _read(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InputError(f"{path} has more than {_MAX_FILE_BYTES} bytes: that is no key, certificate or configuration")
    return data


def _line(path: Path) -> str:
    """The text of a file, without spaces and line ends around it."""
    try:
        return _read(path).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: write the password in it anew") from error


def _checked(setup: Setup, folder: Path) -> Setup:
    """`setup` with keys and passwords read in; UsageError for what the board would stumble on without a word."""
    user, wifi = setup.user, setup.wifi
    if not _HOST.fullmatch(setup.hostname):
        raise UsageError(f"hostname {setup.hostname!r} must be 1 to 63 of a-z, 0-9 and -, and no - at its ends")
    check_user(user.name)
    check_timezone(setup.timezone)
    if user.password_hash and not _HASH.fullmatch(user.password_hash):
        raise UsageError("user.password_hash is no hash: make one with openssl passwd -6")
    keys = tuple(_ssh_key(text, folder) for text in user.ssh_keys)
    if not keys and not user.password_hash:
        raise UsageError("user.ssh_keys is empty and there is no password_hash, so nobody could log in: add a key")
    if wifi.password and wifi.password_file:
        raise UsageError("wifi.password and wifi.password_file exclude each other")
    if wifi.password_file:
        wifi = replace(wifi, password=_line(folder / wifi.password_file), password_file="")
    if wifi.ssid:
        if not 1 <= len(wifi.ssid.encode()) <= 32:
            raise UsageError("wifi.ssid must have 1 to 32 bytes")
        if re.search(r"[\x00-\x1f]", wifi.ssid + wifi.password):
            raise UsageError("wifi.ssid and the Wi-Fi password must not have control characters: is it one line?")
        check_country(wifi.country)
        if not (8 <= len(wifi.password.encode()) <= 63 or re.fullmatch(r"[0-9a-fA-F]{64}", wifi.password)):
            raise UsageError("the Wi-Fi password must have 8 to 63 characters, or be a key of 64 hexadecimal digits")
    elif wifi != Wifi():
        raise UsageError("wifi.ssid is missing")
    return replace(setup, user=replace(user, ssh_keys=keys), wifi=wifi)


def _ssh_key(text: str, folder: Path) -> str:
    """A public key, from the text itself or from the file that it names."""
    line = text if text.startswith(_KEY_KINDS) else _read(folder / Path(text).expanduser()).decode(errors="replace")
    if "PRIVATE KEY" in line:
        raise UsageError(f"{text} is a private key, which must never leave this machine: name the .pub file")
    parts = line.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
        size = int.from_bytes(blob[:4], "big")
        good = parts[0] in _KEY_KINDS and blob[4 : 4 + size].decode() == parts[0] and len(line.splitlines()) == 1
    except (IndexError, ValueError):
        good = False
    if not good:
        raise UsageError(f"user.ssh_keys: {text[:60]!r} is no public key in one line, nor a file that holds one")
    return " ".join(parts)
