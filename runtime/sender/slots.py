"""Slots of promised frames that were sent and wait for a receiver's word: only a few are tried again at a time."""

from __future__ import annotations

from typing import NamedTuple

_SLOTS, _SLOTS_CONFIRMED = 4, 32


class Attempt(NamedTuple):
    """The last try of a frame."""

    sent_s: float
    retry_s: float
    """How long to wait for a receiver's word before the next one."""


class Slots:
    """The last attempts of the rows of a spool that have a slot. Not thread-safe.

    There are few while nobody has said `kept` on this connection (`confirmed`): there may be no receiver that keeps
    anything.
    """

    def __init__(self) -> None:
        self.confirmed = False
        """Whether a receiver has kept something on this connection."""
        self._attempts: dict[int, Attempt] = {}

    def __contains__(self, row_id: int) -> bool:
        return row_id in self._attempts

    @property
    def full(self) -> bool:
        """Whether all slots are taken."""
        return len(self._attempts) >= (_SLOTS_CONFIRMED if self.confirmed else _SLOTS)

    @property
    def due_s(self) -> dict[int, float]:
        """When the time of each row comes."""
        return {row_id: last.sent_s + last.retry_s for row_id, last in self._attempts.items()}

    def due(self, now_s: float) -> int | None:
        """The row of the first slot whose time has come."""
        return next((row_id for row_id, due_s in self.due_s.items() if now_s >= due_s), None)

    def put(self, row_id: int, attempt: Attempt) -> None:
        """Give a row a slot."""
        self._attempts[row_id] = attempt

    def leave(self, row_id: int) -> Attempt | None:
        """Take a row out of its slot; its last attempt, if it had one."""
        return self._attempts.pop(row_id, None)

    def clear(self) -> None:
        """Take all rows out."""
        self._attempts.clear()
