"""TCP socket of a connection: its options, and how much of what we sent has not arrived."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys

log = logging.getLogger(__name__)

# Above our own window: what the kernel does not take, paho would hold, and `unacked_bytes` would not see it.
_NOT_SENT_BYTES = 128 * 1024

# Of the kernel's `struct tcp_info`: tcpi_bytes_received, tcpi_segs_out, tcpi_segs_in; tcpi_bytes_sent.
_TCP_INFO_BYTES = 208
_RECEIVED_AND_SEGMENTS, _SENT = struct.Struct("=QII"), struct.Struct("=Q")
_TCP_HEADER_BYTES = 32  # with the timestamps that Linux uses


def set_options(sock: socket.socket, congestion: str) -> None:
    """Small messages leave at once, and what the path cannot take yet stays visible to us instead of in the kernel.

    congestion: name of the kernel's TCP congestion control; empty for its default.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        not_sent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if not_sent is not None:
            sock.setsockopt(socket.IPPROTO_TCP, not_sent, _NOT_SENT_BYTES)
    if congestion:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        except (OSError, AttributeError) as error:
            log.warning("TCP congestion control %s is not to be had here: %s", congestion, error)


def unacked_bytes(sock: socket.socket | None) -> int | None:
    """What the kernel has of ours that the broker's kernel has not acknowledged; None where it does not tell."""
    if sock is None or sys.platform != "linux":
        return None
    import fcntl
    import termios

    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, ValueError):  # closed at this moment
        return None


def wire_bytes(sock: socket.socket | None) -> int | None:
    """What a connection has cost so far in both directions, with the headers of TCP and IP and what was sent again.

    None where the kernel does not tell: only Linux counts it, from 4.19 on.
    """
    if sock is None or sys.platform != "linux":
        return None
    try:
        about = socket.socket.getsockopt(sock, socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        if len(about) < _TCP_INFO_BYTES:
            return None
        headers = _TCP_HEADER_BYTES + (40 if sock.family == socket.AF_INET6 else 20)
    except OSError:  # closed at this moment
        return None
    received_bytes, segments_out, segments_in = _RECEIVED_AND_SEGMENTS.unpack_from(about, 128)
    (sent_bytes,) = _SENT.unpack_from(about, 200)
    return int(sent_bytes + received_bytes + headers * (segments_out + segments_in))


def shut_down(sock: socket.socket | None) -> None:
    """End the connection in both directions; the socket stays open."""
    if sock is not None:
        with contextlib.suppress(OSError):
            # The plain socket's method also where it speaks TLS: paho may be reading from it at this moment.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
