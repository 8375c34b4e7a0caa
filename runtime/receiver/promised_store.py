"""Store of promised frames on the receiver's disk: what is acknowledged as kept survives a crash and a power cut."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from edgesem.errors import EdgesemError, InputError
from edgesem.files import read_packet, write_whole
from edgesem.packet.packet import MAX_PACKET_BYTES, Packet
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics, from_file_name, stream_folder
from runtime.receiver import disk_room
from runtime.receiver.undrawn import DRAWN_SUFFIXES, UndrawnIndex, frame_name

PROMISED = "promised"
FILE_MODE = 0o640
"""Of the files that a receiver writes: pictures of homes are not for every user of the machine."""
_MAX_QUEUED = 256
_FREE_FILES = 1024
_SHARE = 4
"""A device that nobody has named takes at most this part of what its own frames and free space have together."""
_LAST_S = 3.0
"""At the end, frames that wait are written for so long; the others were not acknowledged, and are sent again."""

log = logging.getLogger(__name__)

Done = Callable[[bool, bool], None]


class PromisedStore:
    """Store of promised frames below `folder`, as `SITE/DEVICE/STREAM/promised/TIME-EPOCH-FRAME.es`.

    Thread-safe. A thread of its own writes, because the network thread must not wait for a slow disk. A frame that is
    there already is not written again, also not after a restart. Another one of the same name gets a name with a
    digest. `free_bytes` of the disk are left alone (None: 64 MiB, less of a small disk). A device for which
    `is_reserved` does not answer True gets a share of the disk, so that a stranger does not take the room of the
    others. Use it as a context manager.
    """

    def __init__(
        self,
        folder: Path,
        *,
        free_bytes: int | None = None,
        is_reserved: Callable[[Topics], bool] = lambda _: True,
    ) -> None:
        self.folder = folder
        self.undrawn = UndrawnIndex(folder, PROMISED)
        """The kept frames that have no picture yet."""
        self._free_bytes, self._is_reserved = free_bytes, is_reserved
        self._orders: queue.Queue[tuple[Topics, Packet, Done] | None] = queue.Queue(_MAX_QUEUED)
        self._limited_log = RateLimitedLog(log)
        self._busy_since_s: float | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name="promised store", daemon=True)
        self._scanner = threading.Thread(target=self.undrawn.scan, name="promised scan", daemon=True)

    def __enter__(self) -> PromisedStore:
        self._thread.start()
        self._scanner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.undrawn.stop()
        with contextlib.suppress(queue.Full):
            self._orders.put(None, timeout=_LAST_S)
        self._thread.join(_LAST_S)
        self._leaving.set()
        self._thread.join(_LAST_S)  # a disk that hangs must not hold up the end of the program
        self._scanner.join(_LAST_S)

    @property
    def alive(self) -> bool:
        """Whether frames are still written; a defect that ended the thread is in the log."""
        return self._thread.is_alive()

    @property
    def stalled_s(self) -> float:
        """For how many seconds the disk has not finished the frame that is being written; 0 between frames."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def put(self, topics: Topics, packet: Packet, done: Done) -> None:
        """Queue a frame to be written; `done(safe, new)` is called on the store's thread.

        If the queue is full, `done` is not called: the sender sends the frame again later.
        """
        try:
            self._orders.put_nowait((topics, packet, done))
        except queue.Full:
            self._limited_log.warn(
                "promised frame %d of %s has to be sent again: disk is slow", packet.frame, topics.base
            )

    def path_of(self, topics: Topics, packet: Packet) -> Path:
        """File of a frame. The capture time tells apart the frames of two epochs with the same number."""
        return kept_path(self.folder, topics, packet)

    def mark_drawn(self, topics: Topics, packet: Packet) -> None:
        """Note on the disk that a frame was drawn. Where a picture stands beside it, that says so already."""
        path = self.path_of(topics, packet)
        pictures = [path.with_suffix(suffix) for suffix in DRAWN_SUFFIXES]
        written = [picture.stat().st_size for picture in pictures if picture.exists()]
        self.undrawn.add_bytes(topics, sum(written))
        if not written:
            try:
                path.with_suffix(".drawn").touch(mode=FILE_MODE)
            except OSError as error:  # it is drawn again at the next start
                self._limited_log.warn("cannot note that %s was drawn: %s", path, error.strerror)

    def forget(self, path: Path, size_bytes: int) -> None:
        """Count a file of a promised frame, of so many bytes, as deleted."""
        site, device, stream = map(from_file_name, path.parts[-5:-2])
        if site and device and stream:
            topics = Topics(site, device, stream)
            self.undrawn.add_bytes(topics, -size_bytes)
            self.undrawn.claim(topics, path.name)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None and not self._leaving.is_set():
            topics, packet, done = order
            self._busy_since_s = time.monotonic()
            safe = new = False
            try:
                new = self._write(topics, packet)
                safe = True
            except (EdgesemError, OSError) as error:
                self._limited_log.warn("promised frame %d of %s is not kept: %s", packet.frame, topics.base, error)
            except Exception:  # a defect of ours costs this frame, not those that follow
                log.exception("promised frame %d of %s is not kept", packet.frame, topics.base)
            try:
                done(safe, new)
            except Exception:
                log.exception("promised frame %d of %s", packet.frame, topics.base)
            self._busy_since_s = None

    def _write(self, topics: Topics, packet: Packet) -> bool:
        """Write a frame; whether it was not there before."""
        data = packet.to_bytes()
        path = stream_folder(self.folder, topics) / PROMISED / f"{frame_name(packet)}.es"
        if path.exists():
            if _content(path) == data:
                return False
            if _is_packet(path):  # another picture under this name; what is no packet is replaced
                path = _apart(path, data)
                if path.exists() and _content(path) == data:
                    return False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._check_room(topics, path.parent, len(data))
        self.undrawn.expect(topics, path.name)
        write_whole(path, data, mode=FILE_MODE)
        folder = os.open(path.parent, os.O_RDONLY)  # the file's name must survive a power cut, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self.undrawn.add(topics, path.name, len(data))
        return True

    def _check_room(self, topics: Topics, folder: Path, size_bytes: int) -> None:
        """Raise InputError if there is no room for a frame, or none for this device."""
        left_bytes = self._free_bytes
        if left_bytes is None:
            left_bytes = disk_room.reserve_bytes(folder, disk_room.PROMISED_FREE_BYTES)
        disk = os.statvfs(folder)
        free_bytes = disk.f_bavail * disk.f_frsize - left_bytes
        if free_bytes < size_bytes or (disk.f_files and disk.f_favail < _FREE_FILES):
            raise InputError(
                f"{folder}: its disk has {disk.f_bavail * disk.f_frsize >> 20} MiB free, and "
                f"{left_bytes >> 20} MiB and {_FREE_FILES} files are left free: make room (its sender keeps it)"
            )
        if self._is_reserved(topics):
            return
        own_bytes = self.undrawn.used_bytes(topics) + size_bytes
        if own_bytes > (own_bytes + free_bytes) // _SHARE:
            raise InputError(
                f"{topics.site}/{topics.device} has {own_bytes} bytes here, its share of the disk: "
                "name its streams on the command line, or seal them, and it gets what is free"
            )


def kept_path(folder: Path, topics: Topics, packet: Packet) -> Path:
    """File of a promised frame, whose picture has the same name but for its suffix."""
    path = stream_folder(folder, topics) / PROMISED / f"{frame_name(packet)}.es"
    apart = _apart(path, packet.to_bytes())
    return apart if apart.exists() else path


def _apart(path: Path, data: bytes) -> Path:
    """The file of a frame whose name another picture has already."""
    return path.with_name(f"{path.name.removesuffix('.es')}-{blake2b(data, digest_size=8).hexdigest()}.es")


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PACKET_BYTES + 1)


def _is_packet(path: Path) -> bool:
    try:
        read_packet(path)
    except EdgesemError:
        return False
    return True
