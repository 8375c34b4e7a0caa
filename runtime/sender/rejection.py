"""Rejection of promised frames: after which tries one is a dead letter, because nobody takes it."""

from __future__ import annotations

_MOST_REFUSALS, _MOST_UNKEPT = 3, 8


class Rejection:
    """Count of the tries of each promised frame that failed, by its row in the spool.

    A frame is rejected when the broker has refused it three times, or when it was tried more than eight times and
    receivers have kept others after it. While nobody keeps anything, none is: there may be no receiver.
    """

    def __init__(self) -> None:
        self.tried_s: dict[int, float] = {}
        """When each row that is neither kept nor rejected was last tried."""
        self._refusals: dict[int, int] = {}
        self._unkept: dict[int, int] = {}
        """Tries of a row after which receivers have kept others."""
        self._kept_s = float("-inf")

    def tried(self, row_id: int, now_s: float) -> str:
        """A row is tried; why it is rejected, if that is once too often."""
        if self._kept_s > self.tried_s.get(row_id, float("inf")):
            self._unkept[row_id] = self._unkept.get(row_id, 0) + 1
            if self._unkept[row_id] > _MOST_UNKEPT:
                return f"no receiver has kept it after {_MOST_UNKEPT} tries, and others were kept"
        self.tried_s[row_id] = now_s
        return ""

    def refused(self, row_id: int) -> bool:
        """The broker refuses a row; whether it is rejected."""
        self._refusals[row_id] = self._refusals.get(row_id, 0) + 1
        return self._refusals[row_id] >= _MOST_REFUSALS

    def kept(self, row_id: int, now_s: float) -> None:
        """A receiver keeps a row."""
        self._kept_s = now_s
        self.forget(row_id)

    def forget(self, row_id: int) -> None:
        """A row is kept or rejected."""
        for counts in (self.tried_s, self._refusals, self._unkept):
            counts.pop(row_id, None)
