"""Promised frames on disk: what is acknowledged as kept is there after a crash, of us or of the machine."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from edgesem.errors import EdgesemError, InputError
from edgesem.files import read_packet, write_whole
from edgesem.packet.packet import Packet
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics, from_file_name, stream_folder

PROMISED = "promised"
_MOST_WAITING = 256
_FREE_BYTES = 64 * 1024 * 1024  # a promised frame is refused rather than fill the disk to the last byte
_NAME = re.compile(r"\d{10}-\d{5}-\d{10}\.es")

log = logging.getLogger(__name__)


class PromisedStore:
    """Writes promised frames below `folder`, as `SITE/DEVICE/STREAM/promised/TIME-EPOCH-FRAME.es`.

    A thread of its own writes, because a disk may be slow and the network may not wait for it. A frame that is there
    already is not written again, also not after a restart. Use it as a context manager.
    """

    def __init__(self, folder: Path, *, free_bytes: int = _FREE_BYTES) -> None:
        self.folder = folder
        self._free_bytes = free_bytes
        self._orders: queue.Queue[tuple[Topics, Packet, Callable[[bool, bool], None]] | None]
        self._orders = queue.Queue(_MOST_WAITING)
        self._limited_log = RateLimitedLog(log)
        self._thread = threading.Thread(target=self._work, name="promised store", daemon=True)

    def __enter__(self) -> PromisedStore:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.put(None)
        self._thread.join()

    def put(self, topics: Topics, packet: Packet, done: Callable[[bool, bool], None]) -> None:
        """Keep a frame; `done(safe, new)` is called on another thread. Without room it is not called: try again."""
        try:
            self._orders.put_nowait((topics, packet, done))
        except queue.Full:
            self._limited_log.warn(
                "promised frame %d of %s has to be sent again: disk is slow", packet.frame, topics.base
            )

    def path_of(self, topics: Topics, packet: Packet) -> Path:
        """Where a frame is kept. The capture time tells apart what two epochs with one number would not."""
        return stream_folder(self.folder, topics) / PROMISED / f"{frame_name(packet)}.es"

    def without_picture(self, most: int = 64) -> Iterator[tuple[Topics, Packet]]:
        """Frames kept by an earlier run that were not drawn before it ended."""
        for path in sorted(self.folder.glob(f"*/*/*/{PROMISED}/*.es"))[-10 * most :]:
            drawn = any(path.with_suffix(suffix).exists() for suffix in (".png", ".jpg"))
            if drawn or not _NAME.fullmatch(path.name) or most <= 0:
                continue
            with contextlib.suppress(EdgesemError):
                site, device, stream = map(from_file_name, path.parts[-5:-2])
                if site and device and stream:
                    yield Topics(site=site, device=device, stream=stream), read_packet(path)
                    most -= 1

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            topics, packet, done = order
            try:
                new = self._write(self.path_of(topics, packet), packet)
            except (InputError, OSError) as error:
                self._limited_log.warn("promised frame %d of %s is not kept: %s", packet.frame, topics.base, error)
                done(False, False)
            else:
                done(True, new)

    def _write(self, path: Path, packet: Packet) -> bool:
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(path.parent).free
        if free_bytes < self._free_bytes:
            raise InputError(f"{path.parent}: {free_bytes} bytes free, {self._free_bytes} are left alone: make room")
        write_whole(path, packet.to_bytes())
        folder = os.open(path.parent, os.O_RDONLY)  # the file's name must survive a power cut, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True


def frame_name(packet: Packet) -> str:
    """What a frame's files are called: capture time, epoch and number."""
    return f"{packet.time_ms:010d}-{packet.epoch:05d}-{packet.frame:010d}"
