"""Conflict of two senders under one name, seen by their messages that take turns."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable

_RETURNS = 3
_WINDOW_S = 300.0
_KNOWN = 8


class SenderConflict:
    """Watches what should change at most once, when a sender starts anew: the salt of its births, or its epoch.

    Two that come in turns, three times within five minutes, are of two senders. Not thread-safe. `clock` gives
    monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: Hashable = None
        self._known: deque[Hashable] = deque(maxlen=_KNOWN)
        self._returns: deque[float] = deque(maxlen=_RETURNS)

    def note(self, mark: Hashable) -> bool:
        """Note the mark of a message; whether two senders are seen for the first time by it."""
        if mark == self._last:
            return False
        before = self.seen
        self._last = mark
        if mark in self._known:
            self._returns.append(self._clock())
        else:
            self._known.append(mark)
        return self.seen and not before

    @property
    def seen(self) -> bool:
        """Whether there are two senders at present."""
        return len(self._returns) == _RETURNS and self._clock() - self._returns[0] < _WINDOW_S
