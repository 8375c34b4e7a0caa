"""Table that keeps its names and figures whole on a narrow terminal: where they do not fit side by side, as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_LEAST_WORDS = 24
"""A column of words may fold down to so many letters, and no more."""
_INDENT = "  "


class FittingTable(Table):
    """Table whose first `words` columns hold words, and the others figures.

    Words may fold, but not below 24 letters; figures never do, only their heads. Where that is too wide for the
    console, each row is a block: its words on one line, and below them its figures, each behind its column's name.
    """

    words: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._fit(console, options):
            yield from super().__rich_console__(console, options)
            return
        if self.title:
            yield self.title if isinstance(self.title, Text) else Text(str(self.title))
        yield from self._blocks(options.max_width)

    def _fit(self, console: Console, options: ConsoleOptions) -> bool:
        """Set the columns' widths; whether they stand side by side."""
        unbounded = options.update(max_width=10_000)
        least, most = [], []
        for place, column in enumerate(self.columns):
            cell = max((Measurement.get(console, unbounded, one).maximum for one in column.cells), default=0)
            head = Measurement.get(console, unbounded, column.header)
            least.append(max(min(_LEAST_WORDS, cell) if place < self.words else cell, head.minimum))
            most.append(max(cell, head.maximum))
        spare = options.max_width - sum(least) - 2 * len(least) - 2  # a space and a line at each column, and the edges
        for place, column in enumerate(self.columns):  # words first: they stand to the left
            column.width = least[place] + max(0, min(spare, most[place] - least[place]))
            spare -= column.width - least[place]
        return spare >= 0

    def _blocks(self, width: int) -> Iterator[Text]:
        cells = [[str(cell) for cell in column.cells] for column in self.columns]
        heads = [str(column.header) for column in self.columns]
        for place, row in enumerate(self.rows):
            texts = [column[place] for column in cells]
            yield Text("  ".join(filter(None, texts[: self.words])) or "-", style=row.style or "", overflow="fold")
            figures = zip(heads[self.words :], texts[self.words :], strict=True)
            for line in _lines((f"{head} {text}".strip() for head, text in figures if text), width):
                yield Text(line, style=row.style or "", overflow="fold")


def _lines(items: Iterable[str], width: int) -> Iterator[str]:
    """The items, separated by commas, in indented lines of at most so many letters; no item is divided."""
    line = ""
    for item in items:
        if line and len(_INDENT) + len(line) + len(item) + 3 > width:
            yield f"{_INDENT}{line},"
            line = ""
        line = f"{line}, {item}" if line else item
    if line:
        yield _INDENT + line
