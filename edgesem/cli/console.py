"""Output of commands: the result on stdout, as JSON or for a human; progress, warnings and errors on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from edgesem.errors import EdgesemError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID
    from rich.table import Table
    from rich.text import Text

    log: Console
    """For progress, warnings and errors: stderr, so that stdout holds the result alone. Text is shown as it is:
    brackets in a file name are no markup, and colons no picture. Made when it is first asked for: a daemon says what it
    has to say with `say`, and needs no Rich."""


def __getattr__(name: str) -> Any:
    if name != "log":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rich.console import Console

    globals()[name] = made = Console(stderr=True, markup=False, emoji=False, highlight=False)
    return made


def say(text: str) -> None:
    """Print one line, or several, on stderr: what `log.print` shows of plain text, without Rich."""
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


def emit(result: Mapping[str, Any], as_json: bool, render: Callable[[Mapping[str, Any]], RenderableType]) -> None:
    """Print `result` on stdout: as one JSON object, or as what `render` makes of it for a human."""
    if as_json:
        sys.stdout.write(json.dumps(plain_json(result), indent=2, allow_nan=False) + "\n")
    else:
        from rich.console import Console
        from rich.text import Text

        shown = render(result)
        Console(markup=False, emoji=False).print(Text(visible(shown)) if isinstance(shown, str) else shown)


def fail(error: Exception, exit_code: int, as_json: bool) -> int:
    """Report `error` as one red line on stderr, for machines also as one line of JSON on stdout; return `exit_code`."""
    from rich.text import Text

    from edgesem.cli.console import log

    message = str(error) or type(error).__name__
    log.print(Text(visible(f"error: {message}"), style="bold red"), soft_wrap=True)
    if as_json:
        # Typer hangs private marks of its own on an exception.
        public = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        details = public if isinstance(error, EdgesemError) else {}
        body = {"type": type(error).__name__, "message": message, "exit_code": exit_code, **details}
        # One line: it may end the output of a command that prints an event a line.
        sys.stdout.write(json.dumps(plain_json({"error": body}), allow_nan=False) + "\n")
    return exit_code


def visible(text: str) -> str:
    """A text for a terminal, in which control characters, and what else cannot be printed, stand as escapes.

    Names of files, streams and bundles come from outside: they must not move the cursor or set the window's title.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)


class Bar:
    """Handle on the bar that `progress` shows."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: float = 1) -> None:
        """Add `count` to what is done."""
        self._progress.advance(self._task, count)

    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        """Set what is done in all; `total` and `what`, if given, replace the whole and the words before the bar."""
        self._progress.update(self._task, completed=done, total=total, description=what)


@contextmanager
def progress(what: str, total: float | None = 1.0) -> Iterator[Bar]:
    """A progress bar on stderr while the block runs: `what`, the bar, how far, time passed, time left.

    total: a whole number of things (int, shown as 3/8), a share (1.0, shown in percent), or None for not known yet. The
    bar disappears at the end, and nothing is drawn where stderr is no terminal. One at a time.
    """
    from rich import progress as bars

    from edgesem.cli.console import log

    share = bars.MofNCompleteColumn() if isinstance(total, int) else bars.TaskProgressColumn()
    columns = (bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), share)
    times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, *times, console=log, transient=True, disable=not log.is_terminal) as shown:
        yield Bar(shown, shown.add_task(what, total=total))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None, left: int = 1) -> Table:
    """A table for a human: the first `left` columns hold words, the others figures, which stand to the right.

    A cell is text, rich Text, or anything that `str` makes text of; None is an empty cell. Text is shown as it is, with
    no markup. More rows can be added to what is returned. On a terminal too narrow for it, each row becomes a block.
    """
    from rich import box
    from rich.text import Text

    from edgesem.cli.fitting_table import FittingTable

    head = None if title is None else Text(visible(title), "bold")
    shown = FittingTable(title=head, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.words = left
    for place, name in enumerate(columns):
        # The head of a figure may fold, at its spaces; a figure itself never.
        shown.add_column(Text(name), justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        shown.add_row(*map(_cell, row))
    return shown


def pairs(values: Mapping[str, Any], title: str | None = None) -> Table:
    """Names and values, one pair a line; what is nested stands as `outer.inner`."""
    from rich.table import Table
    from rich.text import Text

    head = None if title is None else Text(visible(title), "bold")
    shown = Table(title=head, title_justify="left", show_header=False, box=None)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")  # a digest is of use only when whole
    for name, value in _flat(values):
        shown.add_row(_cell(name), _cell(value))
    return shown


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _flat(item, f"{name}.{place}")
    else:
        yield name, "none" if value is None else value


def _cell(value: Any) -> Text:
    from rich.text import Text

    if isinstance(value, Text):
        return value
    if isinstance(value, (list, tuple)):
        return Text(visible(" ".join(map(str, value))))
    return Text("" if value is None else f"{value:.6g}" if isinstance(value, float) else visible(str(value)))


def plain_json(value: Any) -> Any:
    """`value` as JSON can hold it: numpy scalars as numbers, paths as text, infinity and NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, without importing it
        return plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, PurePath) else value
