"""Log lines: what strangers can put into a message stays one line of printable text."""

from __future__ import annotations

import logging


class PlainFormatter(logging.Formatter):
    """Formatter that writes control characters and other unprintable ones as escapes.

    A topic, an error text of a broker or of a decoder may hold what would move the cursor of a terminal, or look like a
    line of its own. The lines of a traceback stay lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name of logging
        """The line of a record, without its traceback."""
        return printable(super().formatMessage(record))


def printable(text: str) -> str:
    """`text` with everything that is not printable as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
