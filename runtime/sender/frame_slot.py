"""Frame slot: what waits to be encoded, which is the newest frame and the frames that are to be promised.

Which frames are due to be promised, or to be looked at, goes by the time of their capture: whether there is a link, or
room on it, makes no difference to that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edgesem.errors import UsageError
from runtime.capture.frame import Frame
from runtime.congestion.interface import LinkControl
from runtime.protocol.command import PROMISED_BYTES
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.event_recorder import EventRecorder
from runtime.sender.publisher import IDLE_S, ROOM_S, Publisher
from runtime.sender.viewers import Viewers

log = logging.getLogger(__name__)

_PROMISES_WAITING = 4
_DETAILS_WAITING = 2


class QueuedFrame(NamedTuple):
    """A frame that is to be encoded now."""

    frame: Frame
    max_bytes: int = 0
    """What its packet may have if it is to be promised; 0: it is an ordinary one."""
    handle: DeliveryHandle | None = None
    """Who waits for it, if it is promised and somebody does."""


class FrameSlot:
    """Slot of one frame, overwritten by each newer one, and a rule of when it may be taken.

    A frame may be taken once its interval since the one before has passed and the control has room for it. A frame that
    waits for room longer than an interval counts as skipped: `skip` is called, under the lock. A frame that somebody
    waits for (`send_newest`) goes beside those that are due, which stay where they are. With `look_at_all`, a
    frame may be taken without room: somebody decides by its content what becomes of it. Frames that are due to be
    promised are queued as they come; `refuse` is called, under the lock, for one that finds the queue full, because the
    processor is too slow. Pauses and snapshots, which receivers ask for, are kept here too: a snapshot is taken in a
    pause as well. While none of the `viewers` watches, thumbnails are all that is wanted. Thread-safe: guarded by the
    publisher's lock. `clock` gives monotonic seconds.
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
        look_at_all: bool = False,
        refuse: Callable[[Frame], None] = lambda _: None,
        viewers: Viewers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.beat_s = clock()
        """When the encoding thread was last at work, or waited for a frame or for room."""
        self.promise_every = promise_every
        """Every so many frames, at the rate asked for, one is to be promised; 0: none but those that are asked for."""
        self._look_at_all, self._refuse, self._viewers = look_at_all, refuse, viewers
        self._asked_interval_s = control.interval_s
        self._captured, self._captured_next_s = 0, clock()
        """Frames at the rate asked for, by the time they came, and when the next of them is due."""
        self._publisher, self._control, self._stop, self._clock = publisher, control, stop, clock
        self._ready_in_s, self._skip = ready_in_s, skip
        self._arrived = threading.Condition(publisher.lock)
        """Notified when there is something new."""
        self.recorder: EventRecorder | None = None
        """Gives the frames of events, which are promised; None: there are no events."""
        self._event_turn = True
        """Whether a frame of an event goes before others: they go in turn, so that none waits for all of the others."""
        self._offered: Frame | None = None
        self._latest: Frame | None = None
        self._to_promise: deque[QueuedFrame] = deque()
        self._snapshot_bytes = 0
        """Of a snapshot that was asked for before there was a frame."""
        self._paused_until_s = float("-inf")
        self._resting = False
        """Whether no frames are wanted at this time of the day."""
        self._next_s = clock()
        """Before this, the next frame would be one more than was asked for."""
        self._awaited = False
        """Whether somebody waits for a frame that is not due."""
        self._waits_since_s: float | None = None
        """Since when a frame waits for nothing but room, or when one was last skipped meanwhile."""
        self._busy = self._closed = False

    def offer(self, frame: Frame) -> None:
        """Put the newest frame into the slot; what stood there is forgotten."""
        with self._arrived:
            self._offered = self._latest = frame
            if self._snapshot_bytes:
                size_bytes, self._snapshot_bytes = self._snapshot_bytes, 0
                self.snapshot(size_bytes)
            elif self._is_due() and not self.paused:
                self._offered = None
                if len(self._to_promise) < _PROMISES_WAITING:
                    self._to_promise.append(QueuedFrame(frame, PROMISED_BYTES))
                else:
                    self._refuse(frame)
            self._arrived.notify_all()

    def promise(self, frame: Frame, max_bytes: int, handle: DeliveryHandle) -> None:
        """Queue a frame to be promised; blocks while others wait to be encoded."""
        with self._arrived:
            while len(self._to_promise) >= _PROMISES_WAITING and not self._closed:
                self._arrived.wait(IDLE_S)
            if self._closed:
                handle.close()
                return
            self._to_promise.append(QueuedFrame(frame, max_bytes, handle))
            self._arrived.notify_all()

    def snapshot(self, size_bytes: int) -> None:
        """Promise the newest frame: the last that there was, not the next that comes; paused or not."""
        with self._arrived:
            if self._latest is None:
                self._snapshot_bytes = size_bytes
            elif len(self._to_promise) < 2 * _PROMISES_WAITING:
                if self._offered is self._latest:
                    self._offered = None
                self._to_promise.append(QueuedFrame(self._latest, size_bytes))
            else:
                log.warning("a snapshot is not taken: %d frames wait to be promised", len(self._to_promise))
            self._arrived.notify_all()

    def promise_detail(self, detail: Frame, size_bytes: int) -> None:
        """Promise a part of a picture, paused or not. Raises UsageError if two of them wait."""
        with self._arrived:
            if sum(queued.frame.detail is not None for queued in self._to_promise) >= _DETAILS_WAITING:
                raise UsageError(f"a detail is not taken: {_DETAILS_WAITING} wait to be encoded")
            self._to_promise.append(QueuedFrame(detail, size_bytes))
            self._arrived.notify_all()

    def pause(self, seconds: float) -> None:
        """Let nothing be taken for so long; infinity: until it is 0."""
        with self._arrived:
            self._paused_until_s = self._clock() + seconds
            self._arrived.notify_all()

    def send_newest(self) -> None:
        """Somebody waits for a picture: the newest frame that there was goes now, also if it was sent before.

        The frames that are due stay so: a camera that gives no more than those would else be late from then on.
        """
        with self._arrived:
            self._awaited = True
            if self._viewers is not None and self._viewers.watched:
                self._next_s = min(self._next_s, self._clock() + self._control.interval_s)
            if self._offered is None:
                self._offered = self._latest
            self._arrived.notify_all()

    def hurry(self) -> None:
        """The next frame is due when it comes."""
        with self._arrived:
            self._next_s = self._clock()

    def set_interval(self, interval_s: float) -> None:
        """Frames are due so often from now on; infinity: none but snapshots that are asked for."""
        with self._arrived:
            self._resting = interval_s == float("inf")
            if not self._resting:
                self._asked_interval_s = interval_s
                soon_s = self._clock() + interval_s
                self._next_s, self._captured_next_s = min(self._next_s, soon_s), min(self._captured_next_s, soon_s)
            self._arrived.notify_all()

    @property
    def paused(self) -> bool:
        """Whether somebody has asked for a pause, or no frames are wanted at this time."""
        return self._resting or self._clock() < self._paused_until_s

    @property
    def is_pause_asked(self) -> bool:
        """Whether somebody has asked for a pause."""
        return self._clock() < self._paused_until_s

    @property
    def overtaken(self) -> bool:
        """Whether a newer frame is there than the one taken last, and could be taken now. Under the lock."""
        if self._to_promise or self._event_waits:
            return True
        return self._offered is not None and (not self._look_at_all or self._awaited or self._clock() >= self._next_s)

    @property
    def idle(self) -> bool:
        """Whether nothing waits, and what was taken is done with. Under the lock."""
        return self._offered is None and not (self._to_promise or self._event_waits or self._busy)

    def wake(self) -> None:
        """Have `take` look at the stop."""
        with self._arrived:
            self._arrived.notify_all()

    def close(self) -> None:
        """The sender ends: whoever waits for a promised frame waits no longer."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
            for queued in self._to_promise:
                if queued.handle is not None:
                    queued.handle.close()

    def take(self, *, wait: bool = True) -> QueuedFrame | None:
        """The next frame that is to be encoded; what was taken before counts as done with.

        It waits until there is one, and returns None at the stop. Without `wait`: None if there is none now.
        """
        while not self._stop.is_set():
            interval_s = self._control.interval_s
            if self._event_turn and (queued := self._take_event_frame()) is not None:
                return queued
            self._event_turn = True
            with self._arrived:
                self.beat_s = now_s = self._clock()
                self._busy = False
                if self._to_promise:
                    self._arrived.notify_all()
                    return self._taken_at(now_s, interval_s, self._to_promise.popleft())
                condition, timeout_s = self._arrived, IDLE_S
                if self._offered is not None and not self.paused:
                    if now_s < self._next_s and not self._awaited:
                        timeout_s = min(self._next_s - now_s, IDLE_S)
                    elif self._look_at_all or self._publisher.budget_bytes(self._ready_in_s()) is not None:
                        queued, self._offered = QueuedFrame(self._offered), None
                        beside, self._awaited = self._awaited and now_s < self._next_s, False
                        return self._taken_at(now_s, interval_s, queued, beside=beside)
                    else:
                        self._wait_for_room(now_s, interval_s)
                        condition, timeout_s = self._publisher.changed, ROOM_S
                if self._event_waits:
                    continue
                if not wait:
                    return None
                condition.wait(timeout_s)
        return None

    @property
    def _event_waits(self) -> bool:
        return self.recorder is not None and self.recorder.waiting > 0

    def _take_event_frame(self) -> QueuedFrame | None:
        """The next frame of an event; not under the lock, because it is a JPEG file until now."""
        frame = None if self.recorder is None else self.recorder.next_frame()
        if frame is None or self.recorder is None:
            return None
        with self._arrived:
            self.beat_s, self._busy, self._event_turn = self._clock(), True, False
        return QueuedFrame(frame, self.recorder.options.frame_bytes)

    def _taken_at(self, now_s: float, interval_s: float, queued: QueuedFrame, *, beside: bool = False) -> QueuedFrame:
        """Note that a frame is taken; `beside`: it is none of those that are due."""
        self._busy = True
        if beside:
            self._waits_since_s = None
        elif queued.handle is None:
            self._next_s = max(self._next_s + interval_s, now_s - interval_s / 4)
            if self._viewers is not None and not (self._look_at_all or queued.max_bytes or self._viewers.watched):
                self._next_s = max(self._next_s, now_s + self._viewers.idle_every_s)
            self._waits_since_s = None
        return queued

    def _wait_for_room(self, now_s: float, interval_s: float) -> None:
        """`_next_s` stays where it is: the next frame goes when it comes, and not most of an interval later."""
        if self._waits_since_s is None:
            self._waits_since_s = now_s
        elif now_s >= self._waits_since_s + interval_s:  # its time has gone, and the next one's has come
            self._waits_since_s += interval_s
            self._skip()

    def _is_due(self) -> bool:
        """Whether the frame that has come is to be promised: the first, and each `promise_every`-th of the rate."""
        now_s, interval_s = self._clock(), self._asked_interval_s
        if not self.promise_every or now_s < self._captured_next_s - interval_s / 4:
            return False
        self._captured_next_s = max(self._captured_next_s + interval_s, now_s - interval_s / 4)
        self._captured += 1
        return (self._captured - 1) % self.promise_every == 0
