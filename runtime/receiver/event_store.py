"""Event store of a receiver: which events there are, and the frames of those whose clip is not made yet."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgesem.errors import EdgesemError, InputError
from edgesem.files import write_whole
from edgesem.packet.capture_time import full_time_ms, utc_text
from edgesem.packet.event_mark import EventMark
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver import disk_room
from runtime.receiver.event_frames import MOST_FRAMES, EventFrames
from runtime.receiver.event_record import BEGUN, COMPLETE, EVENTS, NAME, EventRecord
from runtime.receiver.promised_store import FILE_MODE
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.sinks import encode_picture
from runtime.receiver.stamp import clock_is_set

log = logging.getLogger(__name__)

_MOST_KNOWN = 5000
"""So many events are listed, the newest; files of older ones stay until retention deletes them."""
_MOST_OPEN = 32
"""Events of one stream whose frames are here; another one has no place until one of them is closed."""
_FREE_BYTES = disk_room.PROMISED_FREE_BYTES


@dataclass
class OpenEvent:
    """An event whose frames are here."""

    record: EventRecord
    frames: EventFrames
    changed_s: float
    """When a frame came last, by the monotonic clock."""
    is_new: bool = False
    """Whether nobody was told that it began."""
    is_dirty: bool = True
    """Whether frames came since the clip was made."""
    patience: float = 1.0
    """After a clip of which frames were missing, the next one waits longer: on a thin link they come one by one."""


class EventStore:
    """Events below `folder`/events. Thread-safe.

    `add` is called with each promised picture before it counts as drawn: then one that is lost by a kill is drawn, and
    added, again. `on_changed` is called, without the lock, when a frame was added; `on_written(size_bytes)` counts what
    was written. The rest is for the thread that makes clips.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_changed: Callable[[], None] = lambda: None,
        on_written: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder.resolve() / EVENTS
        self.lock = threading.RLock()
        self.open: dict[tuple[str, str], OpenEvent] = {}
        """Those whose frames are here, by stream and id. Under the lock."""
        self._on_changed, self._on_written, self._clock = on_changed, on_written, clock
        self._records: dict[tuple[str, str], EventRecord] = {}
        """All that are known, by stream and id; those without a frame are not listed."""
        self._limited_log = RateLimitedLog(log)

    def load(self) -> None:
        """Read what earlier runs have left."""
        try:
            paths = sorted(self.folder.glob("*/*/*/*.json"), key=lambda path: path.name)[-_MOST_KNOWN:]
        except OSError as error:
            log.warning("%s cannot be looked through for events: %s", self.folder, error.strerror)
            return
        for path in paths:
            if not NAME.fullmatch(path.stem):
                continue
            try:
                record = EventRecord.read(path)
                if record.record_file(self.folder) != path:
                    raise InputError(f"{path} is of another stream, or was renamed")
            except EdgesemError as error:
                self._limited_log.warn("an event is left out: %s", error)
                continue
            key = record.stream, record.id
            with self.lock:
                self._records[key] = record
                frames = EventFrames.read(record.frames_folder(self.folder))
                if frames.names:
                    is_dirty = record.phase == BEGUN or len(frames.names) != record.frames
                    self.open[key] = OpenEvent(record, frames, self._clock(), record.frames == 0, is_dirty)

    def add(self, picture: ReceivedPicture) -> None:
        """Add a picture to its event, if it has one. What the disk does not take costs a log line."""
        mark = picture.packet.side_info.event
        if mark is None or not picture.packet.promised:
            return
        try:
            added = self._add(picture, mark)
        except (EdgesemError, OSError) as error:
            self._limited_log.warn("a frame of an event of %s is left out of its clip: %s", picture.stream, error)
            return
        if added:
            self._on_changed()

    def events(
        self, *, stream: str | None = None, before_ms: int | None = None, limit: int = 50
    ) -> tuple[list[EventRecord], bool]:
        """The newest events, newest first, that began before `before_ms`; and whether there are more."""
        with self.lock:
            found = [
                one
                for one in self._records.values()
                if one.frames and stream in (None, one.stream) and (before_ms is None or one.time_ms < before_ms)
            ]
        found.sort(key=lambda one: (one.time_ms, one.id), reverse=True)
        return found[:limit], len(found) > limit

    def find(self, stream: str, event: str) -> EventRecord | None:
        """The event of a stream with this id, or None."""
        return self._records.get((stream, event))

    def update(self, record: EventRecord) -> None:
        """Write what is known of an event now. InputError if the disk does not take it."""
        self.write(record.record_file(self.folder), record.to_bytes())
        with self.lock:
            key = record.stream, record.id
            self._records[key] = record
            if key in self.open:
                self.open[key].record = record
            while len(self._records) > _MOST_KNOWN:
                oldest = min(self._records, key=lambda one: self._records[one].time_ms)
                del self._records[oldest]

    def write(self, path: Path, data: bytes) -> None:
        """Write a file of an event. InputError if the disk does not take it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            left_bytes = disk_room.reserve_bytes(path.parent, _FREE_BYTES)
            free_bytes = disk_room.free_bytes(path.parent)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        if free_bytes < left_bytes + len(data):
            raise InputError(
                f"{path.parent}: its disk has {free_bytes >> 20} MiB free, and {left_bytes >> 20} MiB are left free: "
                "make room"
            )
        write_whole(path, data, mode=FILE_MODE)
        self._on_written(len(data))

    def close(self, key: tuple[str, str]) -> None:
        """Delete an event's frames: its clip is all that stays."""
        with self.lock:
            event = self.open.pop(key, None)
        if event is not None:
            event.frames.delete()

    def forget(self, path: Path) -> None:
        """A file of an event was deleted, to make room or because it was too old: the rest of the event goes too."""
        match = NAME.match(path.name)
        if match is None:
            return
        with self.lock:
            found = [one for one in self._records.values() if one.name == match[0]]
            for record in found:
                if record.folder(self.folder) != path.parent:
                    continue
                del self._records[record.stream, record.id]
                self.close((record.stream, record.id))
                files = (record.record_file, record.picture_file, record.sheet_file, record.clip_file)
                for file in filter(None, (one(self.folder) for one in files)):
                    with contextlib.suppress(OSError):
                        file.unlink(missing_ok=True)

    def _add(self, picture: ReceivedPicture, mark: EventMark) -> bool:
        """Write a frame; False if it is one too many, or of an event whose clip is made."""
        key = picture.stream, mark.name
        with self.lock:
            event = self.open.get(key)
            if event is None:
                known = self._records.get(key)
                if known is not None and known.phase == COMPLETE:
                    return False
                self._make_place(picture.stream)
                record = known or _begun(picture, mark)
                self.update(record)  # without it, frames are of no use after a restart
                frames = EventFrames(record.frames_folder(self.folder))
                event = self.open[key] = OpenEvent(record, frames, self._clock(), is_new=record.frames == 0)
            if mark.place in event.frames.names:
                return False
            if len(event.frames.names) >= MOST_FRAMES:
                raise InputError(f"{MOST_FRAMES} of its frames are here")
        name = EventFrames.file_name(mark.place, mark.since_ms, last=mark.last)
        self.write(event.frames.folder / name, encode_picture(picture.image, "jpg", picture.provenance))
        with self.lock:
            event.frames.add(mark.place, mark.since_ms, last=mark.last)
            event.changed_s, event.is_dirty = self._clock(), True
            self.open[key] = event
        return True

    def _make_place(self, stream: str) -> None:
        """Make room for one more event of a stream, of those whose clip is made. InputError if there are none."""
        own = [key for key in self.open if key[0] == stream]
        if len(own) < _MOST_OPEN:
            return
        done = [key for key in own if not self.open[key].is_dirty]
        if not done:
            raise InputError(f"{_MOST_OPEN} events are gathered at a time")
        self.close(min(done, key=lambda key: self.open[key].changed_s))


def _begun(picture: ReceivedPicture, mark: EventMark) -> EventRecord:
    """The record of an event of which this is the first frame that came."""
    now_ms = time.time_ns() // 1_000_000
    packet = picture.packet
    # A board without a clock begins at 1970: its events are filed under the time at which they came.
    captured_ms = full_time_ms(packet, now_ms) if clock_is_set(packet, now_ms) else now_ms
    begun_ms = max(0, captured_ms - mark.since_ms)
    text = utc_text(begun_ms).replace("-", "").replace(":", "")
    return EventRecord(mark.name, picture.stream, f"{text}-{mark.name}", begun_ms, mark.cause, mark.label)


def counted(record: EventRecord, frames: EventFrames, phase: str, **more: object) -> EventRecord:
    """The record with what is known of the frames now."""
    there = list(frames)
    known = {"phase": phase, "frames": len(there), "missing": frames.missing}
    times = {"first_s": there[0].since_ms / 1000, "last_s": there[-1].since_ms / 1000}
    return replace(record, **{**known, **times, **more})  # type: ignore[arg-type]
