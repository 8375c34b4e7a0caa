"""Conflict of two senders under one name, seen by their messages that come in turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

_RETURNS = 3
_WINDOW_S = 300.0
_KNOWN = 8


@dataclass
class _Marks:
    """The marks of one kind of message, and when one came again after another."""

    last: Hashable = None
    known: deque[Hashable] = field(default_factory=lambda: deque(maxlen=_KNOWN))
    returns_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RETURNS))


class SenderConflict:
    """Watches what should change at most once, when a sender starts anew: the salt of its births, and its epoch.

    Two marks of one kind that come in turn, three times within five minutes, are of two senders. Not thread-safe.
    `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[str, _Marks] = {}

    def note(self, kind: str, mark: Hashable) -> bool:
        """Note the mark of a message; whether two senders are seen for the first time by it."""
        marks = self._kinds.setdefault(kind, _Marks())
        if mark == marks.last:
            return False
        before = self.seen
        marks.last = mark
        if mark in marks.known:
            marks.returns_s.append(self._clock())
        else:
            marks.known.append(mark)
        return self.seen and not before

    @property
    def seen(self) -> bool:
        """Whether there are two senders at present."""
        now_s = self._clock()
        returns = [marks.returns_s for marks in self._kinds.values()]
        return any(len(one) == _RETURNS and now_s - one[0] < _WINDOW_S for one in returns)
