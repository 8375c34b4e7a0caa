"""The clock of packets and acknowledgements: Unix milliseconds modulo 2^32."""

from __future__ import annotations

import time

_WRAP_MS = 2**32


def clock_ms() -> int:
    """Now, as packets and acks carry it: Unix milliseconds modulo 2^32."""
    return unix_ms() % _WRAP_MS


def unix_ms() -> int:
    """Now in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def elapsed_s(since_ms: int, now_ms: int) -> float:
    """Seconds between two clock values of the same clock, across the wrap at 2^32 ms (every 49.7 days)."""
    return ((now_ms - since_ms + 2**31) % _WRAP_MS - 2**31) / 1000
