"""Signals that end a daemon in order: SIGTERM, SIGINT and SIGHUP set an event."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

SAME_SIGNAL_S = 1.0
"""Signals so near to each other are one."""
_ending = threading.Event()
"""Set by the first signal."""


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that the first signal sets; another one, a second or more after it, ends the process at once.

    A SIGHUP that is ignored, as `nohup` leaves it, stays so. Signals within that second are the same one that comes
    twice: a shell and its group, or `timeout` and systemd, both pass it on. Where a signal has come, the handlers stay
    as they are behind the block, so that this holds until the process has ended.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers
        return

    first_s: float | None = None
    _ending.clear()

    def leave(number: int, _frame: object) -> None:
        nonlocal first_s
        if first_s is None:
            first_s = time.monotonic()
            _ending.set()
            stop.set()
        elif time.monotonic() - first_s >= SAME_SIGNAL_S:
            os._exit(128 + number)  # no exception: an orderly end may wait for what hangs

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield stop
    finally:
        if first_s is None:
            for number, handler in before.items():
                signal.signal(number, handler)


def end_in_order() -> None:
    """Have this process end as by a SIGTERM, if it does not end already."""
    if not _ending.is_set():
        os.kill(os.getpid(), signal.SIGTERM)
