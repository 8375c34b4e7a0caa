"""Index of the kept frames that have no picture yet, and of what the kept frames of each device take on the disk."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgesem.errors import EdgesemError
from edgesem.files import read_packet
from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet
from runtime.protocol.topics import Topics, from_file_name, stream_folder

log = logging.getLogger(__name__)

DRAWN_SUFFIXES = (".png", ".jpg", ".drawn")
"""A file of the same name with one of these says that a frame was drawn."""
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{3}Z|\d{10,20})-\d{5}-\d{10}(-detail)?(-[0-9a-f]{16})?\.es")
_LAST_MS = 253_402_300_799_999  # of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class UndrawnIndex:
    """Index of what is below `folder`, in `SITE/DEVICE/STREAM/{subfolder}`. Thread-safe.

    `scan` fills it from the disk; frames that are kept meanwhile are added by `add`. A frame that was taken out is in
    the hands of a decoder: if that does not draw it, the next start finds it again.
    """

    def __init__(self, folder: Path, subfolder: str) -> None:
        self._folder, self._subfolder = folder, subfolder
        self._lock, self._refilling = threading.Lock(), threading.Lock()
        self._names: dict[Topics, dict[str, None]] = {}
        """File names by stream, the oldest first."""
        self._used_bytes: dict[tuple[str, str], int] = {}
        self._stopped = False
        self._added: set[tuple[Topics, str]] | None = set()
        """The frames written during the scan, which does not add them again; None after it."""

    def scan(self) -> None:
        """Look through the folder, until `stop`. May take long where there are many files."""
        try:
            for parts in sorted(self._folder.glob(f"*/*/*/{self._subfolder}")):
                site, device, stream = map(from_file_name, parts.parts[-4:-1])
                if self._stopped:
                    return
                if site and device and stream:
                    self._scan_stream(Topics(site, device, stream), parts)
        except (OSError, EdgesemError) as error:
            log.warning("%s cannot be looked through for frames without a picture: %s", self._folder, error)
        finally:
            with self._lock:
                self._added = None

    def stop(self) -> None:
        """End the scan."""
        self._stopped = True

    def expect(self, topics: Topics, name: str) -> None:
        """A frame is about to be written: a scan that finds its file is not to add it, too."""
        with self._lock:
            if self._added is not None:
                self._added.add((topics, name))

    def add(self, topics: Topics, name: str, size_bytes: int) -> None:
        """Add a frame that was written."""
        with self._lock:
            self._names.setdefault(topics, {})[name] = None
        self.add_bytes(topics, size_bytes)

    def add_bytes(self, topics: Topics, size_bytes: int) -> None:
        """Count what was written for a device; less than 0 for what was deleted."""
        device = topics.site, topics.device
        with self._lock:
            self._used_bytes[device] = self._used_bytes.get(device, 0) + size_bytes

    def claim(self, topics: Topics, name: str) -> bool:
        """Take out a frame for a decoder; False if it is not here, because it was taken before."""
        with self._lock:
            names = self._names.get(topics, {})
            found = name in names
            names.pop(name, None)
            if not names:
                self._names.pop(topics, None)
            return found

    def streams(self) -> list[Topics]:
        """The streams that have frames without a picture."""
        with self._lock:
            return list(self._names)

    def take(self, topics: Topics, most: int) -> list[Packet]:
        """Take out the oldest frames of a stream, at most `most`. What cannot be read is left out."""
        with self._lock:
            names = list(self._names.get(topics, {}))[:most]
        packets = []
        for name in names:
            if not self.claim(topics, name):
                continue
            try:
                packets.append(read_packet(stream_folder(self._folder, topics) / self._subfolder / name))
            except EdgesemError as error:
                log.warning("a kept frame cannot be drawn: %s", error)
        return packets

    def refill(self, room_for: Callable[[Topics], int], queue: Callable[[Topics, list[Packet]], None]) -> None:
        """Take out so many frames of each stream as `room_for` says, and hand them to `queue`.

        One thread at a time, or there would be more of them than there is room for; the others return at once.
        """
        if not self._refilling.acquire(blocking=False):
            return
        try:
            for topics in self.streams():
                if (most := room_for(topics)) and (packets := self.take(topics, most)):
                    queue(topics, packets)
        finally:
            self._refilling.release()

    def used_bytes(self, topics: Topics) -> int:
        """What the kept frames of a stream's device and their pictures take on the disk."""
        with self._lock:
            return self._used_bytes.get((topics.site, topics.device), 0)

    def _scan_stream(self, topics: Topics, folder: Path) -> None:
        kept, drawn, size_bytes = [], set(), 0
        with os.scandir(folder) as files:
            for file in files:
                if self._stopped:
                    return
                with contextlib.suppress(FileNotFoundError):  # it was renamed: frames are written meanwhile
                    size_bytes += file.stat(follow_symlinks=False).st_size
                stem, suffix = os.path.splitext(file.name)
                if suffix in DRAWN_SUFFIXES:
                    drawn.add(stem)
                elif _NAME.fullmatch(file.name):
                    kept.append(file.name)
        device = topics.site, topics.device
        with self._lock:
            added = self._added or set()
            undrawn = (name for name in sorted(kept) if name.removesuffix(".es") not in drawn)
            found = {name: None for name in undrawn if (topics, name) not in added}
            self._used_bytes[device] = self._used_bytes.get(device, 0) + size_bytes
            if found:
                self._names[topics] = found | self._names.get(topics, {})


def frame_name(packet: Packet) -> str:
    """File name of a frame without suffix: capture time (UTC), epoch and number, and whether it is a detail."""
    time_ms = full_time_ms(packet)
    if 0 <= time_ms <= _LAST_MS:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
        time = f"{moment:%Y%m%dT%H%M%S}.{time_ms % 1000:03d}Z"
    else:
        time = f"{time_ms:020d}"
    detail = "" if packet.side_info.detail is None else "-detail"
    return f"{time}-{packet.epoch:05d}-{packet.frame:010d}{detail}"
