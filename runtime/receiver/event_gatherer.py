"""Event gatherer of a receiver: makes clip and contact sheet of an event's frames, and says when it begins and ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from edgesem.errors import EdgesemError, InputError
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver.contact_sheet import make_contact_sheet, nearest_frame
from runtime.receiver.event_clip import clip_suffix, make_clip
from runtime.receiver.event_record import BEGUN, COMPLETE, EventRecord
from runtime.receiver.event_store import EventStore, OpenEvent, counted

log = logging.getLogger(__name__)

QUIET_S = 30.0
"""An event of which frames are missing is taken for over when none has come for so long. What comes later makes another
clip of it."""
_SETTLE_S = 1.0
"""What a frame may take on its way, where the clip waits for an event to go on."""
_KEEP_S = 120.0
"""Frames stay so long after a clip of all of them: the event may be prolonged."""
_KEEP_MISSING_S = 86400.0
"""And so long where some are missing: they may come after an outage."""
_LOOK_S = 1.0
_AGAIN_S = 60.0
"""A clip that could not be made, because the disk is full, is tried again after so long."""
_LAST_S = 5.0
_MOST_PATIENCE = 32.0
"""Times the quiet after which a clip is made without what is missing."""


class EventGatherer:
    """Gatherer of the events in `store`, on a thread of its own that begins with the first frame of an event.

    `on_event(record)` is called on it when an event begins (`begun`) and when its clip is there (`complete`, and again
    if more frames came after that). Use it as a context manager; `wake` is for `EventStore`.
    """

    def __init__(
        self,
        store: EventStore,
        on_event: Callable[[EventRecord], None],
        *,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.made = 0
        """Clips."""
        self._store, self._on_event, self._quiet_s, self._clock = store, on_event, quiet_s, clock
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again_s: dict[tuple[str, str], float] = {}
        """When what has failed is tried again."""
        self._limited_log = RateLimitedLog(log)

    def __enter__(self) -> EventGatherer:
        if self._store.open:
            self.wake()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(_LAST_S)  # a clip that is being made is made again at the next start

    def wake(self) -> None:
        """A frame was added."""
        self._changed.set()
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()

    def step(self) -> None:
        """Do what is due now."""
        with self._store.lock:
            events = list(self._store.open.items())
        for key, event in events:
            if self._stop.is_set():
                return
            try:
                self._look_at(key, event)
            except (EdgesemError, OSError) as error:
                self._again_s[key] = self._clock() + _AGAIN_S
                self._limited_log.warn(
                    "event %s of %s has no clip yet: %s", event.record.id, event.record.stream, error
                )

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.wait(_LOOK_S if self._store.open else None)
            self._changed.clear()
            try:
                self.step()
            except Exception:  # a defect costs a clip, not those that follow
                log.exception("events are looked at again")
                self._stop.wait(_LOOK_S)

    def _look_at(self, key: tuple[str, str], event: OpenEvent) -> None:
        now_s = self._clock()
        with self._store.lock:
            if not event.frames.names:
                return
            quiet_s = now_s - event.changed_s
            settle_s = min(self._quiet_s, _settle_s([frame.since_ms for frame in event.frames]))
            is_whole, is_new, is_dirty = event.frames.is_whole, event.is_new, event.is_dirty
        if quiet_s >= _KEEP_MISSING_S or (is_whole and not is_dirty and quiet_s >= _KEEP_S):
            self._store.close(key)
        elif now_s >= self._again_s.get(key, float("-inf")):
            self._again_s.pop(key, None)
            if is_new:
                self._begin(event)
            if is_dirty and quiet_s >= (settle_s if is_whole else event.patience * self._quiet_s):
                self._complete(event)

    def _begin(self, event: OpenEvent) -> None:
        with self._store.lock:
            record = counted(event.record, event.frames, BEGUN, missing=0)  # others are on their way
            frame = nearest_frame(list(event.frames))
        self._store.write(record.picture_file(self._store.folder), frame.path.read_bytes())
        self._store.update(record)
        event.is_new = False
        self._tell(record)

    def _complete(self, event: OpenEvent) -> None:
        folder, suffix = self._store.folder, clip_suffix()
        with self._store.lock:
            changed_s = event.changed_s
            record = counted(event.record, event.frames, COMPLETE, clip=suffix, sheet=True)
            frames = [frame for frame in event.frames if frame.path.exists()]
        if not frames:
            raise InputError("all its frames were deleted")
        about = " ".join(filter(None, (record.cause, record.label)))
        comment = f"drawn by edgesem from {len(frames)} packets of {record.stream}: generated pictures"
        clip_file = record.clip_file(folder)
        assert clip_file is not None
        self._store.write(clip_file, make_clip(frames, suffix, comment))
        sheet = make_contact_sheet(frames, stream=record.stream, begun_ms=record.time_ms, about=about)
        self._store.write(record.sheet_file(folder), sheet)
        self._store.write(record.picture_file(folder), nearest_frame(frames).path.read_bytes())
        self._store.update(record)
        with self._store.lock:
            event.is_dirty = event.changed_s != changed_s
            event.patience = min(2 * event.patience, _MOST_PATIENCE)
        self.made += 1
        self._tell(record)

    def _tell(self, record: EventRecord) -> None:
        try:
            self._on_event(record)
        except Exception:  # a caller's: the next event goes on
            log.exception("event %s could not be told", record.id)


def _settle_s(since_ms: Sequence[int]) -> float:
    """How long after the last frame its sender may still prolong an event, by the times of its frames: as long as it
    looks back, after the event's end. Waiting for that, an event that goes on at once is complete once."""
    interval_s = (max(since_ms) - min(since_ms)) / 1000 / max(1, len(since_ms) - 1)
    before_s = max(0.0, -min(since_ms) / 1000) + interval_s
    return before_s + 1.25 * interval_s + _SETTLE_S
