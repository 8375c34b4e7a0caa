"""Viewers of a stream: who watches it, each by a lease of some seconds; a sender on demand goes by them."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.protocol.state import LIVE

_MOST = 64


class Viewers:
    """Leases of the viewers of one stream; without one, a thumbnail each `idle_every_s` seconds is all that it sends.

    A viewer says again and again that it watches. Who says nothing any more is forgotten when its lease ends, so a
    receiver that died keeps no camera awake. Of more than 64 viewers, the one whose lease ends first gives way. Not
    thread-safe: the publisher's lock guards it. `clock` gives monotonic seconds.
    """

    def __init__(self, idle_every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.idle_every_s = idle_every_s
        self.owed = False
        """Whether somebody has begun to watch and no full picture has gone since."""
        self._clock = clock
        self._until_s: dict[int, float] = {}

    def renew(self, viewer: int, lease_s: float) -> bool:
        """A viewer watches for so many seconds from now on, 0: no more. Whether it is the first that there is."""
        before = self.watched
        self._until_s.pop(viewer, None)
        if lease_s > 0:
            self._until_s[viewer] = self._clock() + lease_s
            if len(self._until_s) > _MOST:
                self._until_s.pop(min(self._until_s, key=self._until_s.__getitem__))
        begins = self.watched and not before
        self.owed = begins or (self.owed and self.watched)
        return begins

    @property
    def watched(self) -> bool:
        """Whether somebody watches now."""
        return self.count > 0

    @property
    def count(self) -> int:
        """How many watch now."""
        now_s = self._clock()
        for viewer in [viewer for viewer, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[viewer]
        return len(self._until_s)

    @property
    def state(self) -> str:
        """`idle` or `watched`, as the stream's state says."""
        return LIVE[self.watched]
