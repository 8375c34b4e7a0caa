"""Processor time of coding, that of programs which a codec starts counted in."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable


def cpu_time_s() -> float:
    """Processor time of this process and of all programs that it has started and that have ended, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def cpu_s(work: Callable[[], object]) -> float:
    """Processor time that a piece of work takes, in seconds."""
    start_s = cpu_time_s()
    work()
    return cpu_time_s() - start_s
