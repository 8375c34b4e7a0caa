"""Settings of the daemons, checked on the workstation: by the classes that the daemons themselves read them with.

The package `runtime` offers these classes as entry points of the group `edgesem.settings`, one a daemon, so that this
package need not import it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from edgesem.config import load_config
from edgesem.errors import EnvironmentMissing, UsageError

GROUP = "edgesem.settings"


def check_settings(daemon: str, tables: Mapping[str, Any]) -> None:
    """Raise UsageError, with the key, for what a daemon would refuse, or what could never work on a board.

    daemon: `send` or `receive`. tables: what its TOML file would hold. No file that they name is opened: it lies on the
    board.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == daemon]
    if not found:
        raise EnvironmentMissing(f"nothing here knows the settings of edgesem {daemon}: install edgesem anew")
    try:
        settings = load_config(None, found[0].load(), dict(tables))
    except UsageError as error:
        raise UsageError(f"[{daemon}] {str(error).removeprefix('command line: ')}") from error
    broker = tables.get("broker")
    if not (isinstance(broker, Mapping) and broker.get("host")):
        raise UsageError(f"[{daemon}.broker] host is missing: name the broker, which is not on the board")
    for key, path in _paths(settings):
        if not path.is_absolute():
            raise UsageError(f"[{daemon}] {key} is {str(path)!r}, on the board it must begin with /: /etc/edgesem/NAME")


def _paths(settings: Any, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Every path in settings, with its dotted key."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, f"{prefix}{field.name}.")
        elif isinstance(value, Path):
            yield prefix + field.name, value
