"""Capture time of a packet: whole where the packet has it, otherwise the one nearest to now; and as UTC text."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from edgesem.packet.packet import Packet

_WRAP_MS = 2**32
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_MS = 253_402_300_799_999  # of the year 9999


def nearest_ms(clock_ms: int, now_ms: int) -> int:
    """The Unix milliseconds nearest to `now_ms` that a clock shows as `clock_ms`; never below 0."""
    since_ms = (now_ms - clock_ms + 2**31) % _WRAP_MS - 2**31
    return now_ms - since_ms if now_ms >= since_ms else now_ms - since_ms + _WRAP_MS


def full_time_ms(packet: Packet, now_ms: int | None = None) -> int:
    """Capture time of a packet in Unix milliseconds.

    It is exact for a packet that has the upper half as side information, as promised ones have; of another, it is the
    time nearest to now, which is right within 24.8 days.
    """
    if packet.side_info.time_high is not None:
        return packet.side_info.time_high << 32 | packet.time_ms
    return nearest_ms(packet.time_ms, time.time_ns() // 1_000_000 if now_ms is None else now_ms)


def capture_text(packet: Packet, now_ms: int | None = None) -> str | None:
    """When a packet's picture was captured, as `utc_text`; None where it does not say, as of `edgesem encode`."""
    if packet.time_ms == 0 and packet.side_info.time_high is None:
        return None
    return utc_text(full_time_ms(packet, now_ms))


def utc_text(time_ms: int) -> str:
    """Unix milliseconds as date and time in UTC, such as 2026-11-30T06:20:37.123Z (ISO 8601)."""
    moment = _EPOCH + timedelta(milliseconds=min(max(time_ms, 0), _LAST_MS))
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
