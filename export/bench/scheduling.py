"""Scheduling: keeps how the kernel runs this thread, where an encoder changes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """The calling thread leaves with the scheduling policy that it came with.

    SVT-AV1, started by root, makes the thread that calls it a real-time one (SCHED_FIFO, priority 99) and leaves it so:
    whatever is measured afterwards would never wait for another process. Linux only; elsewhere it does nothing.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
