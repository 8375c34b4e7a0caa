"""Reserve of disk space: a file of zeros that is given up where something must be deleted and the disk is full."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_BLOCK = bytes(65536)


class DiskReserve:
    """A file that takes `size_bytes` of the disk, until they are needed to make room. Not thread-safe."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path, self._size_bytes = path, size_bytes
        self._made = False

    def make(self) -> bool:
        """Take the space, if it is not taken; whether it is now. It leaves nothing half made."""
        if self._made:
            return True
        try:
            if self._path.exists() and self._path.stat().st_size == self._size_bytes:
                self._made = True
                return True
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                for begin in range(0, self._size_bytes, len(_BLOCK)):  # written, not only sized: a hole takes no space
                    file.write(_BLOCK[: self._size_bytes - begin])
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.debug("no reserve in %s: %s", self._path, error)
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        self._made = True
        return True

    def release(self) -> bool:
        """Give the space back to the disk; whether there was any."""
        self._made = False
        try:
            with self._path.open("r+b") as file:
                had = self._path.stat().st_size > 0
                file.truncate(0)
                os.fsync(file.fileno())
        except OSError:
            return False
        if had:
            log.warning(
                "the disk is full: %d bytes kept for that are used to delete what was delivered", self._size_bytes
            )
        return had
