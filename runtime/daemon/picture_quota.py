"""Quota of ordinary pictures in the output folder: the oldest go, so that there is room for promised frames."""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_OURS = re.compile(r"(\d{8}T\d{6}\.\d{3}Z|\d{10,20})-\d{5}-\d{10}\.(png|jpg)|video(-\d+)?\.mkv")
"""Names that ordinary pictures and videos get; nothing else is ever deleted."""
_OLDEST = 10_000
"""So many of the oldest files are known at a time."""
_NEW_S = 60.0
"""A video that was written to less than this ago is not deleted: it may still grow."""
_AGAIN_S = 30.0


class PictureQuota:
    """Quota of the ordinary pictures below `folder`, in `SITE/DEVICE/STREAM`. Thread-safe.

    At most `max_bytes` of them are kept (0: as many as fit), and `free_bytes` of the disk are left free.
    """

    def __init__(self, folder: Path, *, max_bytes: int, free_bytes: int) -> None:
        self.deleted = 0
        """Pictures that made room for others."""
        self._folder, self._max_bytes, self._free_bytes = folder, max_bytes, free_bytes
        self._lock = threading.Lock()
        self._oldest: list[tuple[float, str, int]] = []
        """Negative time, path and size of the oldest files; the oldest last."""
        self._used_bytes = 0
        self._scanned = False
        self._fruitless_s = float("-inf")
        """When there was nothing that could be deleted: the folder is not looked through for each picture."""
        self._limited_log = RateLimitedLog(log)

    def add(self, size_bytes: int) -> None:
        """Count a picture that was written."""
        with self._lock:
            self._used_bytes += size_bytes

    def make_room(self) -> bool:
        """Delete the oldest pictures as far as needed; whether there is room for another."""
        with self._lock:
            if self._max_bytes and not self._scanned:
                self._scan()  # what earlier runs have left counts too
            while self._is_short():
                if not self._oldest:
                    if time.monotonic() - self._fruitless_s < _AGAIN_S:
                        return False
                    self._scan()
                    if not self._oldest:
                        self._fruitless_s = time.monotonic()
                        return False
                self._delete(*self._oldest.pop()[1:])
            return True

    def _is_short(self) -> bool:
        if self._max_bytes and self._used_bytes > self._max_bytes:
            return True
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._folder)
            return disk.f_bavail * disk.f_frsize < self._free_bytes
        return False

    def _delete(self, path: str, size_bytes: int) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._limited_log.warn("%s cannot be deleted to make room: %s", path, error.strerror)
            return
        self.deleted += 1
        self._used_bytes = max(0, self._used_bytes - size_bytes)
        self._limited_log.warn("the oldest pictures are deleted to make room, now %s", path)

    def _scan(self) -> None:
        """Look which files are the oldest. Under the lock."""
        self._scanned, total, newest_s = True, 0, time.time() - _NEW_S
        found: list[tuple[float, str, int]] = []
        for path, size_bytes, time_s in self._files():
            total += size_bytes
            if time_s < newest_s or not path.endswith(".mkv"):
                heapq.heappush(found, (-time_s, path, size_bytes))
                if len(found) > _OLDEST:
                    heapq.heappop(found)
        self._used_bytes = total
        self._oldest = sorted(found)  # by the negative time: the oldest last

    def _files(self) -> Iterator[tuple[str, int, float]]:
        for folder in self._folder.glob("*/*/*"):
            with contextlib.suppress(OSError), os.scandir(folder) as files:
                for file in files:
                    if _OURS.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                        about = file.stat(follow_symlinks=False)
                        yield file.path, about.st_size, about.st_mtime
