"""Processor time of coding, that of programs which a codec starts counted in."""

from __future__ import annotations

import resource
import time


def cpu_time_s() -> float:
    """Processor time of this process and of all programs that it has started and that have ended, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
