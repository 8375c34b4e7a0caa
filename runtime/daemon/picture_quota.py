"""Quota of pictures in the output folder: what is too old goes, and the oldest, so that there is room for others."""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver import disk_room
from runtime.receiver.age_limit import AgeLimit
from runtime.receiver.event_record import EVENTS, NAME
from runtime.receiver.promised_store import PROMISED
from runtime.receiver.undrawn import DRAWN_SUFFIXES

log = logging.getLogger(__name__)

_FRAME = r"(\d{8}T\d{6}\.\d{3}Z|\d{10,20})-\d{5}-\d{10}"
_ORDINARY = (("*/*/*", re.compile(_FRAME + r"\.(png|jpg)|video(-\d+)?\.mkv")),)
_PROMISED = (
    (f"*/*/*/{PROMISED}", re.compile(_FRAME + r"(-detail)?(-[0-9a-f]{16})?\.(es|png|jpg|drawn)")),
    (f"{EVENTS}/*/*/*", re.compile(NAME.pattern + r"(\.(json|jpg|mp4|webp)|-sheet\.jpg)")),
    (f"{EVENTS}/*/*/*/*.frames", re.compile(r"\d{5}_[+-]\d+L?\.jpg")),
)
"""Folders and names that ordinary pictures and videos get; and promised frames, and what is made of those of events.
Nothing else is ever deleted."""
_OLDEST = 10_000
"""So many of the oldest files are known at a time."""
_NEW_S = 60.0
"""A video that was written to less than this ago is not deleted: it may still grow."""
_UNDRAWN_S = 86400.0
"""Nor is a promised frame that came less than this ago and has no picture yet: a decoder may still get to it."""
_AGAIN_S = 30.0
_LOOK_S = 600.0
"""A folder in which nothing was too old is looked through again after so long."""


class PictureQuota:
    """Quota of the ordinary pictures below `folder`, in `SITE/DEVICE/STREAM`, or of the `promised` frames and of the
    clips and contact sheets of events. Thread-safe.

    At most `max_bytes` of them are kept (0: as many as fit), none that was written more than `max_age_s` ago (0: of
    any age; see AgeLimit), and `free_bytes` of the disk are left free (None: 256 MiB, or an eighth of a disk below
    2 GiB). `on_deleted` is called with the path and size of each file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        free_bytes: int | None,
        max_age_s: float = 0.0,
        promised: bool = False,
        on_deleted: Callable[[Path, int], None] = lambda *_: None,
    ) -> None:
        self.deleted = 0
        """Files that were too old, or made room for others."""
        self._folder, self._max_bytes, self._free_bytes = folder, max_bytes, free_bytes
        self._age_limit, self._on_deleted = AgeLimit(max_age_s), on_deleted
        self._kinds = _PROMISED if promised else _ORDINARY
        self._lock = threading.Lock()
        self._oldest: list[tuple[float, str, int]] = []
        """Negative time, path and size of the oldest files; the oldest last."""
        self._used_bytes = 0
        self._newest_s = float("inf")
        """When the newest file was written that the last look has found."""
        self._scanned_s = float("-inf")
        """When the folder was last looked through, by the monotonic clock."""
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
            if self._max_bytes and self._scanned_s == float("-inf"):
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

    def tidy(self) -> None:
        """Delete what is too old, and what is beyond `max_bytes`; may look through all folders."""
        if self._age_limit.max_age_s:
            with self._lock:
                if self._scanned_s == float("-inf"):
                    self._scan()
                before_s = self._age_limit.before_s(self._newest_s)
                if before_s is not None:
                    self._expire(before_s)
        if self._max_bytes:
            self.make_room()

    def _expire(self, before_s: float) -> None:
        """Delete what was written before `before_s`, in Unix seconds. Under the lock."""
        if not self._oldest and time.monotonic() - self._scanned_s < _LOOK_S:
            return
        while True:
            if not self._oldest:
                self._scan()
            before = self.deleted
            while self._oldest and -self._oldest[-1][0] < before_s:
                _, path, size_bytes = self._oldest.pop()
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(path).st_mtime < before_s:  # a video may have grown since
                        self._delete(path, size_bytes)
            if self._oldest or self.deleted == before:  # all others are newer, or cannot be deleted
                return

    def _is_short(self) -> bool:
        if self._max_bytes and self._used_bytes > self._max_bytes:
            return True
        with contextlib.suppress(OSError):
            left_bytes = self._free_bytes
            if left_bytes is None:
                left_bytes = disk_room.reserve_bytes(self._folder, disk_room.ORDINARY_FREE_BYTES)
            return disk_room.free_bytes(self._folder) < left_bytes
        return False

    def _delete(self, path: str, size_bytes: int) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._limited_log.warn("%s cannot be deleted to make room: %s", path, error.strerror)
            self._fruitless_s = time.monotonic()  # or a folder in which nothing can be deleted is scanned for ever
            return
        self.deleted += 1
        self._used_bytes = max(0, self._used_bytes - size_bytes)
        self._on_deleted(Path(path), size_bytes)
        self._limited_log.warn("the oldest pictures are deleted, now %s", path)

    def _scan(self) -> None:
        """Look which files are the oldest. Under the lock."""
        self._scanned_s, total, newest_s = time.monotonic(), 0, 0.0
        now_s = time.time()
        found: list[tuple[float, str, int]] = []
        for path, size_bytes, time_s in self._files():
            total += size_bytes
            newest_s = max(newest_s, time_s)
            if not _is_needed(path, now_s - time_s):
                heapq.heappush(found, (-time_s, path, size_bytes))
                if len(found) > _OLDEST:
                    heapq.heappop(found)
        self._used_bytes, self._newest_s = total, newest_s or float("inf")
        self._oldest = sorted(found)  # by the negative time: the oldest last

    def _files(self) -> Iterator[tuple[str, int, float]]:
        for folders, names in self._kinds:
            for folder in self._folder.glob(folders):
                with contextlib.suppress(OSError), os.scandir(folder) as files:
                    for file in files:
                        if names.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                            about = file.stat(follow_symlinks=False)
                            yield file.path, about.st_size, about.st_mtime


def _is_needed(path: str, age_s: float) -> bool:
    """Whether a file is still in use."""
    stem, suffix = os.path.splitext(path)
    if suffix == ".mkv":
        return age_s < _NEW_S
    return suffix == ".es" and age_s < _UNDRAWN_S and not any(os.path.exists(stem + one) for one in DRAWN_SUFFIXES)
