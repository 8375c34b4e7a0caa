"""Notification of systemd (Type=notify, WatchdogSec): a datagram to the socket that it names."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(message: str) -> None:
    """Tell systemd `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=...`; nothing happens where it did not start us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message.encode(), address)
