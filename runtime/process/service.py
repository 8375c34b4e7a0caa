"""Service: the life of a daemon under systemd, from READY to STOPPING, ended by a signal."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

from runtime.process.signals import stop_on_signals

_M_ARENA_MAX = -8  # of glibc's <malloc.h>


class Service:
    """A running daemon. `stop` is set by the first SIGTERM, SIGINT or SIGHUP."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def ready(self) -> None:
        """Tell systemd that the daemon serves now."""
        _notify("READY=1")

    def alive(self) -> None:
        """Tell systemd's watchdog that the daemon works; without it for `WatchdogSec`, systemd starts it again."""
        _notify("WATCHDOG=1")


@contextlib.contextmanager
def running_service() -> Iterator[Service]:
    """Handle signals inside the `with`; at its end, tell systemd that the daemon ends."""
    _share_heap()
    with stop_on_signals() as stop:
        try:
            yield Service(stop)
        finally:
            _notify("STOPPING=1")


def _share_heap() -> None:
    """Let all threads that start from now on take memory from one heap (glibc only).

    Each would get a heap of its own, and keep there what it once needed: 6 MB of a sender.
    """
    if "MALLOC_ARENA_MAX" in os.environ:  # set by whoever runs the daemon
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _notify(message: str) -> None:
    """Tell systemd `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=...`; nothing happens where it did not start us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message.encode(), address)
