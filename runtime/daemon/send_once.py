"""One wake of a sender (`edgesem send --once`): takes the newest frames, waits until a receiver has them, and ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from runtime.capture.frame import Frame
from runtime.daemon.send_settings import OnceSettings
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.events import (
    Connected,
    FramePacked,
    FrameUnchanged,
    LayersAcknowledged,
    LayersSent,
    PromiseKept,
    SenderEvent,
)
from runtime.sender.pipeline import SenderPipeline

_IMPORTED_S = time.monotonic()
_GRACE_S = 2.0
"""How long to wait for the upper layers of a frame whose base layer a receiver has: it may take no more of them."""
_PROMISES_AT_ONCE = 2


class Wake:
    """One wake: the frames that it takes, and what has become of them.

    `promised`: its frames are promised, and stay on the disk where the deadline passes; otherwise each is offered when
    there is a connection, again if that is lost, and a receiver has it when it has its base layer. Frames that wait on
    the disk from earlier wakes are waited for in either case. `captured` is for the capture thread, `take_event` for
    those of the sender, the rest for the thread that supervises. `clock` gives seconds since the program's start.
    """

    def __init__(
        self,
        settings: OnceSettings,
        pipeline: SenderPipeline,
        *,
        promised: bool,
        max_bytes: int,
        period_s: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._settings, self._pipeline = settings, pipeline
        self._promised, self._max_bytes, self._period_s = promised, max_bytes, period_s
        began_s = time.monotonic() - program_age_s()
        self._clock = clock or (lambda: time.monotonic() - began_s)
        self._lock = threading.Lock()
        self._newest: Frame | None = None
        self._first_s: float | None = None
        """When the source gave its first frame."""
        self._handles: list[DeliveryHandle] = []
        self._taken, self._next_s = 0, 0.0
        self._source_ended = False
        self._offered: Frame | None = None
        """The ordinary frame that is on its way."""
        self._numbers: set[int] = set()
        """Its number, once it is packed."""
        self._base_s: float | None = None
        """When a receiver had its base layer."""
        self._reconnects = 0
        """Of the connection that it was offered on."""
        self._times_s: dict[str, float] = {"program": self._clock()}

    def captured(self, frame: Frame) -> None:
        """Take the newest frame, in place of the one that waits."""
        with self._lock:
            now_s = self._clock()
            if self._first_s is None:
                self._first_s = now_s
            if now_s - self._first_s >= self._settings.warm_up_s:
                self._times_s.setdefault("picture", now_s)
                self._newest = frame

    def ready(self) -> None:
        """The networks are loaded."""
        self._times_s.setdefault("ready", self._clock())

    def take_event(self, event: SenderEvent) -> None:
        """Note what has become of a frame."""
        with self._lock:
            now_s = self._clock()
            if isinstance(event, Connected):
                self._times_s.setdefault("connected", now_s)
            elif isinstance(event, LayersSent):
                self._times_s.setdefault("first_byte", now_s)
            elif isinstance(event, (LayersAcknowledged, PromiseKept)):
                self._times_s.setdefault("received", now_s)
            if self._offered is None:
                return
            if isinstance(event, FramePacked):
                self._numbers.add(event.frame)
            elif isinstance(event, LayersAcknowledged) and event.layer == 0 and event.frame in self._numbers:
                self._base_s = self._base_s or now_s
            elif isinstance(event, FrameUnchanged):
                self._settle()

    def step(self, *, source_ended: bool) -> bool:
        """Take the next frame if it is time; whether all that can be done is done, or the deadline has passed."""
        # All of the pipeline before our lock: it tells some events with its own lock held, and they wait for ours.
        state, idle, now_s = self._pipeline.state(), self._pipeline.idle, self._clock()
        with self._lock:
            self._source_ended = source_ended
            if self._offered is not None:
                self._look_after(self._offered, now_s, idle=idle, reconnects=state.reconnects)
            may_take = self._may_promise() if self._promised else state.up and self._offered is None
            frame = None
            if may_take and self._taken < self._settings.frames and now_s >= self._next_s:
                frame, self._newest = self._newest, None
            if frame is not None:
                self._next_s = now_s + self._period_s
                if self._promised:
                    self._taken += 1
                else:
                    self._offered, self._reconnects = frame, state.reconnects
        if frame is not None and self._promised:
            self._handles.append(self._pipeline.promise(frame, self._max_bytes))
        elif frame is not None:
            self._pipeline.offer(frame)
        left = self.left()
        return now_s >= self._settings.deadline_s or not left or (idle and left == self._lost())

    def left(self) -> int:
        """How many frames no receiver has, of this wake and of earlier ones on the disk."""
        with self._lock:
            undone = sum(bool(handle.refused) or not (handle.done or handle.stored) for handle in self._handles)
            missing = self._settings.frames - self._taken
            if self._source_ended and self._taken:  # a file with fewer frames than were asked for
                missing = min(missing, int(self._newest is not None) + int(self._offered is not None))
        return undone + missing + self._pipeline.state().promised_waiting  # on the disk before its handle says so

    def report(self, trouble: str) -> dict[str, Any]:
        """What this wake has come to: `left`, `taken`, `promised_waiting`, and times since the program's start."""
        left, waiting = self.left(), self._pipeline.state().promised_waiting
        times_s = {f"{name}_s": round(at_s, 2) for name, at_s in self._times_s.items()}
        refused = next((handle.refused for handle in self._handles if handle.refused), "")
        why = (trouble or refused) if left else ""
        about = {"left": left, "taken": self._taken, "promised_waiting": waiting, "trouble": why}
        return {"event": "once", **about, **times_s}

    def _lost(self) -> int:
        """How many of those it is vain to wait for: refused, or never given by a source that has ended."""
        with self._lock:
            refused = sum(bool(handle.refused) for handle in self._handles)
            nothing_came = self._source_ended and not self._taken and self._newest is None and self._offered is None
            return refused + (self._settings.frames if nothing_came else 0)

    def _may_promise(self) -> bool:
        """Whether few enough frames wait to be stored, so that nothing blocks. Under the lock."""
        return sum(not (handle.stored or handle.refused) for handle in self._handles) < _PROMISES_AT_ONCE

    def _look_after(self, offered: Frame, now_s: float, *, idle: bool, reconnects: int) -> None:
        """Whether the frame that was offered has come through, or must be offered again. Under the lock."""
        if self._base_s is not None:
            if idle or now_s - self._base_s > _GRACE_S:
                self._settle()
        elif reconnects != self._reconnects or (not self._numbers and idle):
            # It was lost with its connection, or left out: the newest takes its place.
            self._offered, self._newest = None, self._newest or offered
            self._numbers.clear()

    def _settle(self) -> None:
        """A receiver has the frame that was offered, or it shows nothing new. Under the lock."""
        self._offered, self._base_s = None, None
        self._numbers.clear()
        self._taken += 1


def program_age_s() -> float:
    """Seconds since this process began, interpreter and imports included; where that is unknown, since our import."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED_S
