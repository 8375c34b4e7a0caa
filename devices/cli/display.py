"""How boards, plans and deployments look in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devices.deployment.deploy import Progress
from edgesem.cli.console import log

_WHOLE = ("name", "host", "running", "previous", "release")
"""Columns whose words must stay whole, to be copied into another command."""


def rows(entries: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """A table of those columns that say anything."""
    shown = [name for name in columns if any(entry.get(name) not in (None, "", {}, []) for entry in entries)]
    table = Table(show_edge=False)
    for name in shown:
        table.add_column(name, overflow="fold", no_wrap=name in _WHOLE)
    for entry in entries:
        table.add_row(*(_cell(entry.get(name)) for name in shown))
    return table


def pairs(result: Mapping[str, Any]) -> Table:
    """A name and a value a line, without those that are empty."""
    table = Table(show_header=False, show_edge=False)
    for key, value in result.items():
        if value not in (None, "", (), [], {}):
            table.add_row(key, Text(_cell(value)))
    return table


def plan(result: Mapping[str, Any], last: str) -> RenderableType:
    """What will be, or was, done, and what comes next."""
    return Group(pairs(result), Text(last))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items() if item not in ("", ()))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return "-" if value is None else str(value)


def hosts(ended: Sequence[Progress]) -> RenderableType:
    """A line for each board that is deployed to, and below the table why those that failed did."""
    table = Table("host", "step", "sent", "s", show_edge=False)
    for name in ("before", "runs"):
        table.add_column(name, no_wrap=True)
    for one in ended:
        sent = f"{min(1.0, one.sent_bytes / one.to_send_bytes):.0%}" if one.to_send_bytes else "-"
        words = (one.host, one.step, sent, f"{one.seconds:.0f}", one.before or "-", one.running or "-")
        table.add_row(*map(Text, words), style={True: "green", False: "red", None: ""}[one.ok])
    return Group(table, *(Text(f"{one.host}: {one.message}", style="red") for one in ended if one.message))


class LiveTable:
    """The table of boards on stderr, brought up to date as they come along; lines where there is no terminal."""

    def __init__(self) -> None:
        self._rows: dict[str, Progress] = {}
        self._said: dict[str, str] = {}
        self._lock = Lock()
        self._live = Live(console=log, transient=True) if log.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Bring one board's line up to date; from any thread."""
        with self._lock:
            self._rows[progress.host] = progress
            if self._live is not None:
                self._live.update(hosts(list(self._rows.values())))
            elif self._said.get(progress.host) != progress.step:
                self._said[progress.host] = progress.step
                words = [progress.host, progress.step, *([progress.message] if progress.message else [])]
                log.print(": ".join(words), highlight=False, soft_wrap=True)
