"""What waits to be encoded: the newest frame, which takes the place of the one before it, and frames to be promised."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from runtime.capture.frame import Frame
from runtime.congestion.interface import LinkControl
from runtime.sender.publisher import IDLE_S, ROOM_S, Publisher

PROMISED_BYTES = 8000
"""What a promised frame may have, where nobody says otherwise."""
_PROMISES_WAITING = 4


class Taken(NamedTuple):
    """A frame whose turn it is. `max_bytes` is what it may have if it is to be promised; 0: it is not."""

    frame: Frame
    max_bytes: int


class FrameSlot:
    """One slot for the newest frame, and when it may be taken: once its time has come and there is room for it.

    Guarded by the publisher's lock; what was asked of the sender (a pause, a snapshot) is asked here. `skip` is called,
    under the lock, for each frame that its time has passed over.
    """

    def __init__(
        self,
        *,
        publisher: Publisher,
        control: LinkControl,
        ready_in_s: Callable[[], float],
        skip: Callable[[], None],
        stop: threading.Event,
        promise_every: int,
    ) -> None:
        self.beat_s = time.monotonic()
        """When somebody last wanted a frame."""
        self.promise_every = promise_every
        """Every so many frames one is to be promised; 0: none but those that are asked for."""
        self._publisher, self._control, self._stop = publisher, control, stop
        self._ready_in_s, self._skip = ready_in_s, skip
        self._come = threading.Condition(publisher.lock)
        """Notified when there is something new."""
        self._offered: Frame | None = None
        self._latest: Frame | None = None
        self._to_promise: deque[Taken] = deque()
        self._snapshot_bytes = 0
        self._taken = 0
        self._paused_until_s = 0.0
        self._slot_s = time.monotonic()
        """Before this, the next frame would be one more than was asked for."""
        self._due_s: float | None = None
        """Since when a frame waits for nothing but room, or when one was last skipped meanwhile."""
        self._busy = False

    def offer(self, frame: Frame) -> None:
        """Put the newest frame into the slot; what stood there is forgotten."""
        with self._come:
            self._offered = self._latest = frame
            self._come.notify_all()

    def promise(self, frame: Frame, max_bytes: int) -> None:
        """Let a frame wait to be promised; waits only while others do."""
        with self._come:
            while len(self._to_promise) >= _PROMISES_WAITING and not self._stop.is_set():
                self._come.wait(IDLE_S)
            self._to_promise.append(Taken(frame, max_bytes))
            self._come.notify_all()

    def snapshot(self, size_bytes: int) -> None:
        """Promise the newest frame: the last that there was, not the next that comes."""
        with self._come:
            self._snapshot_bytes = size_bytes
            if self._offered is None:
                self._offered = self._latest
            self._come.notify_all()

    def pause(self, seconds: float) -> None:
        """Let nothing be taken for so long; infinity: until it is 0."""
        with self._come:
            self._paused_until_s = time.monotonic() + seconds
            self._come.notify_all()

    @property
    def paused(self) -> bool:
        """Whether somebody has asked for a pause."""
        return time.monotonic() < self._paused_until_s

    @property
    def overtaken(self) -> bool:
        """Whether a newer frame is there than the one taken last. Under the lock."""
        return self._offered is not None

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and what was taken is done with. Under the lock."""
        return self._offered is None and not self._to_promise and not self._busy

    def wake(self) -> None:
        """Have `take` look at the stop."""
        with self._come:
            self._come.notify_all()

    def take(self) -> Taken | None:
        """Wait for the next frame whose turn it is; None at the stop. What was taken before is done with."""
        while not self._stop.is_set():
            interval_s = self._control.interval_s
            self.beat_s = now_s = time.monotonic()
            with self._come:
                self._busy = False
                if self._to_promise:
                    self._busy = True
                    self._come.notify_all()
                    return self._to_promise.popleft()
                if self._offered is None or self.paused:
                    self._come.wait(IDLE_S)
                elif now_s < self._slot_s:
                    self._come.wait(min(self._slot_s - now_s, IDLE_S))
                elif (max_bytes := self._next_promise_bytes()) or (
                    self._publisher.budget_bytes(self._ready_in_s()) is not None
                ):
                    frame, self._offered = self._offered, None
                    self._busy = True
                    self._taken += 1
                    self._slot_s = max(self._slot_s + interval_s, now_s - interval_s / 4)
                    self._due_s = None
                    return Taken(frame, max_bytes)
                else:
                    # The slot stays where it is: the next frame goes when it comes, and not most of an interval later.
                    if self._due_s is None:
                        self._due_s = now_s
                    elif now_s >= self._due_s + interval_s:  # its time has gone, and the next one's has come
                        self._due_s += interval_s
                        self._skip()
                    self._publisher.changed.wait(ROOM_S)
        return None

    def _next_promise_bytes(self) -> int:
        """What the next frame may have if it is a promised one; 0 if it is not."""
        if self._snapshot_bytes:
            size_bytes, self._snapshot_bytes = self._snapshot_bytes, 0
            return size_bytes
        return PROMISED_BYTES if self.promise_every and self._taken % self.promise_every == 0 else 0
