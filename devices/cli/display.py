"""Tables of boards, plans and deployments for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devices.deployment.deploy import Progress
from edgesem.cli import console
from edgesem.cli.console import log

_EMPTY: tuple[Any, ...] = (None, "", (), [], {})


def rows(entries: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """A table of those columns that are not empty. On a narrow terminal each entry is a block."""
    shown = [name for name in columns if any(entry.get(name) not in _EMPTY for entry in entries)]
    table = console.table(shown, ([_cell(entry.get(name)) for name in shown] for entry in entries))
    for column in table.columns:
        column.justify = "left"
    return table


def pairs(result: Mapping[str, Any]) -> Table:
    """Names and values, one pair a line, without those that are empty."""
    return console.pairs(_filled(result))


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without what is empty, and lists as text."""
    filled = {name: _filled(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: _cell(v) if isinstance(v, (list, tuple)) else v for name, v in filled.items() if v not in _EMPTY}


def plan(result: Mapping[str, Any], last: str) -> RenderableType:
    """A plan, or what was done of it, and below it the next step."""
    return Group(pairs(result), Text(last))


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items() if item not in ("", ()))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_cell, value))
    return "-" if value is None else str(value)


def hosts(ended: Sequence[Progress]) -> RenderableType:
    """A line for each board that is deployed to, and below the table why those that failed did."""
    shown = console.table(("host", "step", "sent", "s", "before", "runs"), (), left=2)
    for one in ended:
        sent = f"{min(1.0, one.sent_bytes / one.to_send_bytes):.0%}" if one.to_send_bytes else "-"
        words = (one.host, one.step, sent, f"{one.seconds:.0f}", one.before or "-", one.running or "-")
        shown.add_row(*map(Text, words), style={True: "green", False: "red", None: ""}[one.ok])
    return Group(shown, *(Text(f"{one.host}: {one.message}", style="red") for one in ended if one.message))


class LiveTable:
    """Live table of the boards of a deployment on stderr; a line for each step where there is no terminal."""

    def __init__(self) -> None:
        self._rows: dict[str, Progress] = {}
        self._printed: dict[str, str] = {}
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
            elif self._printed.get(progress.host) != progress.step:
                self._printed[progress.host] = progress.step
                words = [progress.host, progress.step, *([progress.message] if progress.message else [])]
                log.print(Text(": ".join(words)), soft_wrap=True)
