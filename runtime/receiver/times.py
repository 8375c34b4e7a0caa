"""Times and spans as people write them: `2h`, `30d`, `2026-11-22 14:30`."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from edgesem.errors import UsageError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_span(text: str, name: str = "") -> float:
    """Seconds of a span such as 90s, 30min, 2h, 3d or 4w. Raises UsageError for anything else, with the `name` of what
    was set to it."""
    span = _SPAN.fullmatch(text.strip())
    if span is None:
        where = f"{name}: " if name else ""
        raise UsageError(f"{where}{text!r} is no span of time: write 90s, 30min, 2h, 3d or 4w")
    return float(span[1]) * _SECONDS[span[2]]


def parse_time(text: str, now_s: float | None = None) -> float:
    """Unix seconds of a span ago, such as `2h`, or of a local date and time such as 2026-11-22 14:30.

    Raises UsageError for anything else.
    """
    if _SPAN.fullmatch(text.strip()):
        return (time.time() if now_s is None else now_s) - parse_span(text)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no time: write 90s, 30min, 2h, 3d, or 2026-11-22 14:30") from None


def parse_day(text: str) -> tuple[float, float]:
    """Begin and end in Unix seconds of a local day such as 2026-11-22, which may have 23 to 25 hours.

    Raises UsageError for anything else.
    """
    try:
        begin = datetime.strptime(text.strip(), "%Y-%m-%d")
        return begin.timestamp(), (begin + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{text!r} is no day: write it as 2026-11-22") from None
