"""Event recorder of a sender: promises frames from before and after an event, under one event number."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgesem.errors import UsageError
from edgesem.packet.event_mark import CAUSES, EventMark, short_label
from runtime.capture.frame import Frame
from runtime.process.rate_limit import RateLimitedLog
from runtime.sender.event_ring import EventRing, RingFrame
from runtime.sender.events import EventBegun, EventEnded, SenderEvent

log = logging.getLogger(__name__)

_HOUR_S = 3600.0
_REFUSAL_LOG_S = 600.0
"""One log line in so long for events that are not made: it goes on for hours."""
_MOST_FRAMES = 2**16


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """Options of events. Raises UsageError for a value out of its range."""

    before_s: float = 5.0
    """So many seconds from before an event belong to it, 0 to 120."""
    after_s: float = 10.0
    """And so many after what made it was last seen, 0.1 to 600."""
    fps: float = 1.0
    """Frames a second of an event, 0.05 to 15: fewer, where the source gives fewer."""
    frame_bytes: int = 4000
    """Size limit of each frame, 256 to 65535."""
    memory_bytes: int = 16 << 20
    """Of the frames from before, and as much again of those that wait to be coded, 1 MiB at least."""
    longest_s: float = 120.0
    """What goes on for longer than that becomes another event, 1 to 3600 s."""
    most_an_hour: int = 30
    """With more events in an hour the others are left out; 0: however many there are."""
    novelty: float = 2.0
    """A change makes an event from this novelty on, in thresholds of --send-on change, 1 to 100: fewer events at 4."""
    causes: tuple[str, ...] = CAUSES
    """What makes events: of `edgesem.packet.event_mark.CAUSES`."""

    def __post_init__(self) -> None:
        limits = {
            "before_s": (0, 120),
            "after_s": (0.1, 600),
            "fps": (0.05, 15),
            "frame_bytes": (256, 65535),
            "memory_bytes": (1 << 20, 2**40),
            "longest_s": (1, 3600),
            "most_an_hour": (0, 1_000_000),
            "novelty": (1, 100),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"event option {name} is {getattr(self, name)!r}, must be {low:g} to {high:g}")
        if wrong := set(self.causes) - set(CAUSES):
            raise UsageError(f"{', '.join(sorted(wrong))} makes no event: causes are {', '.join(CAUSES)}")


@dataclass
class _Event:
    """The event that goes on, or that has just ended."""

    number: int
    kind: int
    label: str
    begun_s: float
    until_s: float
    """Frames belong to it until then."""
    frames: int = 0
    last: bool = False
    """Whether its last frame was queued, and nothing has prolonged it since."""


class EventRecorder:
    """Recorder of a stream's events. Thread-safe.

    `offer` takes every captured frame and keeps those of the last seconds, at the rate of the options, in memory. From
    `begin` on they are queued to be promised, with the frames that come until `after_s` later. What begins while an
    event goes on, or so soon after it that the two would share frames, prolongs it, up to `longest_s`. `next_frame`
    gives the frames that are to be coded, the newest first: so a receiver soon has the one at the event's beginning.
    Each has its own mark, from which a receiver puts them together in any order.

    While `paused()`, no frame is kept, and no event is made: who has asked for a pause wants nothing of it to be sent
    later. While not `may_spend()`, nothing begins or prolongs an event but what was asked for. `wake` is called when
    there is something to code, `on_event` with `EventBegun` and `EventEnded`; both without the recorder's lock. `clock`
    gives monotonic seconds.
    """

    def __init__(
        self,
        options: EventOptions,
        *,
        wake: Callable[[], None] = lambda: None,
        paused: Callable[[], bool] = lambda: False,
        may_spend: Callable[[], bool] = lambda: True,
        on_event: Callable[[SenderEvent], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self.count = 0
        """Events since the start."""
        self._wake, self._paused, self._on_event, self._clock = wake, paused, on_event, clock
        self._may_spend = may_spend
        self._interval_s = 1 / options.fps
        self._ring = EventRing(options.before_s, options.memory_bytes)
        self._latest: tuple[Frame, float] | None = None
        """The last frame, and when it came: what an event was made of is on it, or on one just before."""
        self._lock = threading.Lock()
        self._queue: deque[tuple[RingFrame, EventMark]] = deque()
        self._queue_bytes = 0
        self._event: _Event | None = None
        self._next_s = clock()
        """Before this, a frame would be one more than the rate asks for."""
        self._begun_s: deque[float] = deque(maxlen=max(1, options.most_an_hour))
        self._limited_log = RateLimitedLog(log)
        self._refusal_log = RateLimitedLog(log, _REFUSAL_LOG_S)

    @property
    def waiting(self) -> int:
        """How many frames wait to be coded."""
        return len(self._queue)

    def offer(self, frame: Frame) -> None:
        """Take a frame that was captured now; only those that are due at the rate of events cost anything."""
        now_s = self._clock()
        if self._paused():
            self._clear()
            return
        with self._lock:
            self._latest = frame, now_s
            if now_s < self._next_s - self._interval_s / 4:
                return
            self._next_s = max(self._next_s + self._interval_s, now_s + self._interval_s / 4)
        kept = RingFrame.of(frame, now_s)
        with self._lock:
            event = self._event
            if event is None or event.last:
                self._ring.add(kept)
                return
            if now_s <= event.until_s + self._interval_s:
                event.last = now_s + 1.25 * self._interval_s > event.until_s
                self._queue_frame(event, kept)
            else:  # the source gave none for a while
                event.last = True
                self._ring.add(kept)
            ended = EventEnded(f"{event.number:08x}", event.frames) if event.last else None
        self._wake()
        if ended is not None:
            log.info("event %s has %d frames", ended.id, ended.frames)
            self._on_event(ended)

    def begin(self, cause: str, label: str = "") -> None:
        """Something happens now: an event begins, or goes on for longer.

        UsageError if this is no cause of events here, or if there were too many lately.
        """
        if cause not in self.options.causes:
            raise UsageError(
                f"{cause} makes no event here: event.causes are {', '.join(self.options.causes) or 'none'}"
            )
        self._seen(cause, label, begins=True)

    def seen(self, cause: str, label: str, *, begins: bool) -> None:
        """The same for what goes on by itself: unless it `begins`, it prolongs an event and makes none.

        What is no cause of events here, or one too many, costs at most a log line.
        """
        if cause in self.options.causes:
            try:
                self._seen(cause, label, begins=begins)
            except UsageError as error:
                self._refusal_log.warn("%s", error)

    def next_frame(self) -> Frame | None:
        """Take out the frame that is to be coded next, or None."""
        with self._lock:
            if not self._queue:
                return None
            kept, mark = self._queue.pop()
            self._queue_bytes -= len(kept.jpeg)
        return Frame(kept.image(), kept.name, kept.time_ms, event=mark)

    def _clear(self) -> None:
        """Forget the past, and end the event."""
        with self._lock:
            self._ring.clear()
            self._event = self._latest = None

    def _seen(self, cause: str, label: str, *, begins: bool) -> None:
        now_s, options = self._clock(), self.options
        if self._paused():
            raise UsageError("no event is made: the sender is paused")
        if cause != "ask" and not self._may_spend():
            raise UsageError("no event is made: events have had their part of the data budget (data.event_share)")
        latest = self._latest if begins else None
        newest = None if latest is None else RingFrame.of(*latest)
        with self._lock:
            event = self._event
            if event is not None and now_s < event.until_s + options.before_s:
                ends_s = event.begun_s + options.longest_s
                if now_s < ends_s:
                    event.until_s = max(event.until_s, min(now_s + options.after_s, ends_s))
                    self._go_on(event, now_s)
                    return
            if not begins:
                return
            self._check_rate(now_s)
            event = self._event = _Event(
                number=1 + secrets.randbelow(2**32 - 1),
                kind=CAUSES.index(cause),
                label=short_label(label),
                begun_s=now_s,
                until_s=now_s + options.after_s,
            )
            self.count += 1
            if newest is not None and newest.captured_s > self._ring.newest_s:
                self._ring.add(newest)
                self._next_s = newest.captured_s + self._interval_s
            self._go_on(event, now_s)
            begun = EventBegun(f"{event.number:08x}", cause, event.label)
        log.info("event %s begins: %s", begun.id, " ".join(filter(None, (cause, event.label))))
        self._on_event(begun)
        self._wake()

    def _go_on(self, event: _Event, now_s: float) -> None:
        """Queue what was captured since. Under the lock."""
        event.last = False
        for kept in self._ring.take(now_s):
            self._queue_frame(event, kept)

    def _queue_frame(self, event: _Event, kept: RingFrame) -> None:
        """Have a frame promised. Under the lock."""
        if self._queue_bytes + len(kept.jpeg) > self.options.memory_bytes or event.frames >= _MOST_FRAMES:
            self._limited_log.warn("event %08x has a frame less: it is coded too slowly", event.number)
            return
        since_ms = round(1000 * (kept.captured_s - event.begun_s))
        mark = EventMark(event.number, event.frames, since_ms, event.kind, event.last, event.label)
        event.frames += 1
        self._queue.append((kept, mark))
        self._queue_bytes += len(kept.jpeg)

    def _check_rate(self, now_s: float) -> None:
        """UsageError if there were as many events in the last hour as there may be. Under the lock."""
        most = self.options.most_an_hour
        if most and len(self._begun_s) == most and now_s - self._begun_s[0] < _HOUR_S:
            raise UsageError(f"no event is made: there were {most} in the last hour, which is the most (most_an_hour)")
        self._begun_s.append(now_s)
