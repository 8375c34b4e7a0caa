"""Processors that this process may use: what affinity and the control group allow, not what the machine has."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def allowed_processors(root: Path = Path("/")) -> int:
    """Number of processors that may be used, 1 at least. `root` is where /proc and /sys are."""
    count = os.cpu_count() or 1
    with contextlib.suppress(AttributeError, OSError):  # systems without affinity
        count = len(os.sched_getaffinity(0))
    return max(1, min([count, *(math.ceil(share) for share in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Processor time that our control group and those above it may use, in processors."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / "sys/fs/cgroup"
        if controllers:
            if "cpu" not in controllers.split(","):
                continue
            base = base / controllers if (base / controllers).is_dir() else base / "cpu"
        # In a container our own group is seen as the root of the tree, or as its full path.
        folder = base / path.lstrip("/")
        while True:
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                if controllers:
                    quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
                    period = (folder / "cpu.cfs_period_us").read_text("ascii")
                else:
                    quota, period = (folder / "cpu.max").read_text("ascii").split()
                if float(quota) > 0:
                    yield float(quota) / float(period)
            if folder == base:
                break
            folder = folder.parent
