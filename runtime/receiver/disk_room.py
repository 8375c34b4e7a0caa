"""Room on a receiver's disk: how much of it ordinary frames leave free, and how much promised ones."""

from __future__ import annotations

import os
from pathlib import Path

ORDINARY_FREE_BYTES = 256 << 20
"""What ordinary frames leave free, for promised ones."""
PROMISED_FREE_BYTES = 64 << 20
"""What promised frames and clips leave free: nothing of ours fills a disk to the last byte."""
_SMALL_BYTES = 2 << 30


def free_bytes(folder: Path) -> int:
    """Free space of the disk of a folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def reserve_bytes(folder: Path, usual_bytes: int) -> int:
    """What is left free of a disk where that is usually `usual_bytes`: of one below 2 GiB, the same share."""
    disk = os.statvfs(folder)
    return int(usual_bytes * min(1.0, disk.f_blocks * disk.f_frsize / _SMALL_BYTES))
