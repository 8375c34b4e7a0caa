"""Inventory of a fleet, one TOML file: its devices with their streams and groups, and who receives.

[devices."home/gate"]        # SITE/DEVICE
streams = ["main"]           # the default
host = "edge@gate.local"     # for `edgesem device deploy --inventory`
groups = ["north", "doors"]

[receivers.hall]             # accounts for receivers, by name
streams = ["home/+/+"]       # the default is +/+/+
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesem.config import read_toml
from edgesem.errors import UsageError
from runtime.daemon.accounts import Account
from runtime.protocol.topics import Topics

_MOST_STREAMS = 16  # of one device, as many as a receiver takes
_LONGEST_GROUP = 64


@dataclass(frozen=True)
class Device:
    """One device: the topics of its streams, and the groups it is in."""

    site: str
    name: str
    streams: tuple[Topics, ...]
    groups: frozenset[str]

    @property
    def account(self) -> Account:
        """The account that it logs in with: SITE-DEVICE, for its own streams only."""
        return Account(f"{self.site}-{self.name}", "device", (f"{self.site}/{self.name}/+",))


@dataclass(frozen=True)
class Inventory:
    """Devices and receivers of a fleet."""

    path: Path
    devices: tuple[Device, ...]
    receivers: tuple[Account, ...]

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """Read the file. InputError if it cannot be read, UsageError with file and key for what is no inventory."""
        tree = read_toml(path)
        try:
            _known(tree, ("devices", "receivers"), "the file")
            devices = tuple(_device(key, value) for key, value in _table(tree, "devices").items())
            receivers = tuple(_receiver(key, value) for key, value in _table(tree, "receivers").items())
            accounts = [*(one.account for one in devices), *receivers]
            names = Counter(one.name for one in accounts)
            twice = sorted(name for name, count in names.items() if count > 1)
            if twice:
                raise UsageError(f"two accounts would be called {twice[0]!r}: rename one of them")
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        return cls(path, devices, receivers)

    @property
    def streams(self) -> list[Topics]:
        """All streams, in the file's order."""
        return [topics for device in self.devices for topics in device.streams]

    @property
    def groups(self) -> dict[str, frozenset[str]]:
        """The groups of each stream (SITE/DEVICE/STREAM)."""
        return {t.name: device.groups for device in self.devices for t in device.streams}

    @property
    def accounts(self) -> list[Account]:
        """One account for each device and each receiver."""
        return [*(device.account for device in self.devices), *self.receivers]

    def group(self, name: str) -> list[Topics]:
        """The streams of a group; UsageError if no device is in it."""
        found = [topics for device in self.devices if name in device.groups for topics in device.streams]
        if not found:
            known = sorted({group for device in self.devices for group in device.groups})
            raise UsageError(f"{self.path}: no device is in the group {name!r}; groups: {', '.join(known) or 'none'}")
        return found


def _table(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key, {})
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
        raise UsageError(f"{key} must be sections, such as [{key}.{_EXAMPLE[key]}]")
    return value


_EXAMPLE = {"devices": '"home/gate"', "receivers": "hall"}


def _device(key: str, value: Mapping[str, Any]) -> Device:
    place = f'devices."{key[:80]}"'
    site, _, name = key.partition("/")
    if not name or "/" in name:
        raise UsageError(f"{place}: write SITE/DEVICE")
    _known(value, ("streams", "groups", "host"), place)
    streams, groups = _texts(value, "streams", ("main",), place), _texts(value, "groups", (), place)
    if not 1 <= len(streams) <= _MOST_STREAMS:
        raise UsageError(f"{place}: {len(streams)} streams, a device has 1 to {_MOST_STREAMS}")
    if len(set(streams)) < len(streams):
        raise UsageError(f"{place}: a stream is named twice")
    if not all(0 < len(group) <= _LONGEST_GROUP and group.isprintable() for group in groups):
        raise UsageError(f"{place}: a group's name has 1 to {_LONGEST_GROUP} printable characters")
    try:
        device = Device(site, name, tuple(Topics(site, name, stream) for stream in streams), frozenset(groups))
        _ = device.account  # checks the name
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    return device


def _receiver(key: str, value: Mapping[str, Any]) -> Account:
    place = f"receivers.{key[:80]}"
    _known(value, ("streams",), place)
    try:
        return Account(key, "receiver", _texts(value, "streams", ("+/+/+",), place))
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def _known(given: Mapping[str, Any], known: Collection[str], place: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key[:100], list(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here are {', '.join(known)}"
            raise UsageError(f"{place}: unknown key {key[:80]!r}: {hint}")


def _texts(value: Mapping[str, Any], key: str, default: tuple[str, ...], place: str) -> tuple[str, ...]:
    found = value.get(key, default)
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise UsageError(f"{place}: {key} must be a list of texts")
    return tuple(found)
