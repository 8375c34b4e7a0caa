"""New promised frames: those of this connection that were not tried yet."""

from __future__ import annotations

import threading

_MOST = 3
"""Of a burst so many count as new, the newest; and so many are tried before one of those that wait has its turn."""


class NewFrames:
    """Rows of the spool that were added on this connection and not tried yet. Thread-safe: frames are promised on
    another thread than they are sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, None] = {}
        """In the order of their promises."""
        self._in_a_row = 0
        """New frames that were tried one after the other."""

    def __contains__(self, row_id: int) -> bool:
        return row_id in self._rows

    @property
    def has_turn(self) -> bool:
        """Whether a new frame is tried before one that waits."""
        return self._in_a_row < _MOST

    @property
    def newest(self) -> int | None:
        """The row that was added last, or None."""
        with self._lock:
            return next(reversed(self._rows), None)

    def add(self, row_id: int) -> None:
        """A frame was promised."""
        with self._lock:
            self._rows[row_id] = None

    def tried(self, row_id: int) -> None:
        """A row is tried, new or not."""
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if row_id in self._rows else 0
            self._rows.pop(row_id, None)

    def take_surplus(self) -> list[int]:
        """Take out those that are too many to be new, oldest first."""
        with self._lock:
            surplus = [*self._rows][:-_MOST]
            for row_id in surplus:
                del self._rows[row_id]
        return surplus

    def leave(self, row_id: int) -> None:
        """A row is not new any more."""
        with self._lock:
            self._rows.pop(row_id, None)

    def clear(self) -> None:
        """None is."""
        with self._lock:
            self._rows.clear()
