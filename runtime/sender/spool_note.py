"""Note beside a spool: a small file that says what the database should hold, so that a loss is seen."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

_LINE_BYTES = 80


class SpoolNote(NamedTuple):
    """What is noted outside of the database."""

    last_id: int = 0
    """Of the frame that was added last."""
    waiting: int = 0
    """How many frames are in the database."""
    start: int = 0
    """The start counter of the sender."""

    @classmethod
    def read(cls, path: Path) -> SpoolNote:
        """The note in a file; that of a new spool if there is none, or none that can be read."""
        try:
            return cls(*(int(word) for word in path.read_text("ascii").split()[:3]))
        except (OSError, ValueError):
            return cls()

    def write(self, path: Path, *, sync: bool = False) -> None:
        """Write the note, if the disk takes it. It is always as long and written in place, so it needs no room."""
        text = " ".join(map(str, self)).ljust(_LINE_BYTES) + "\n"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(text.encode())
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            log.debug("no note in %s: %s", path, error)
