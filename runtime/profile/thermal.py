"""Heat: the hottest sensor, whether the board throttles, and from when on a run was in its steady state."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from runtime.profile.sysfs import Board, number, text

_PARTS = 8
_SAME_LATENCY = 0.03
_SAME_C = 1.5
_FLAGS = ("undervoltage", "frequency capped", "throttled", "soft temperature limit")
_PLAUSIBLE_C = (-40.0, 130.0)


def temperature_c(board: Board) -> float | None:
    """The hottest thermal zone, in degrees Celsius."""
    seen = []
    for zone in board.glob("sys/class/thermal/thermal_zone*"):
        degrees = number(zone / "temp", 1e-3)
        if degrees is not None and _PLAUSIBLE_C[0] < degrees < _PLAUSIBLE_C[1]:
            seen.append(degrees)
    return max(seen, default=None)


def throttle_bits(board: Board) -> int | None:
    """A Raspberry Pi's throttle word: bits 0 to 3 now, 16 to 19 since boot; None where nothing tells."""
    said = board.vcgencmd("get_throttled") or text(board.root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if not said:
        return None
    digits = said.strip().removeprefix("throttled=").removeprefix("0x")
    try:
        return int(digits, 16)
    except ValueError:
        return None


def throttling(before: int | None, after: int | None) -> dict[str, Any] | None:
    """What the throttle word says of a run between two looks at it; None where the board tells nothing.

    A run is not valid when a flag stands now, or was raised in between.
    """
    if before is None or after is None:
        return None
    now = [name for bit, name in enumerate(_FLAGS) if after >> bit & 1]
    risen = [name for bit, name in enumerate(_FLAGS) if (after & ~before) >> (16 + bit) & 1]
    return {"word": f"0x{after:x}", "now": now, "during": risen, "valid": not now and not risen}


def steady(latencies: Sequence[tuple[float, float]], temperatures: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """From when on latency, and temperature where it is known, stayed as in the last eighth of a run.

    latencies, temperatures: (time, value) in order. `after_s` counts from the first latency; `reached` is whether at
    least the last quarter was steady, None for a run that is too short to tell.
    """
    if len(latencies) < 3 * _PARTS:
        return {"reached": None, "after_s": None, "by": None}
    start_s, end_s = latencies[0][0], latencies[-1][0]
    width_s = (end_s - start_s) / _PARTS
    speed = _medians(latencies, start_s, width_s)
    heat = _medians(temperatures, start_s, width_s)
    by = "latency and temperature" if heat[-1] is not None else "latency"
    first = _PARTS - 1
    while first > 0:
        value, last = speed[first - 1], speed[-1]
        if value is None or last is None or abs(value / last - 1) > _SAME_LATENCY:
            break
        degrees, final = heat[first - 1], heat[-1]
        if degrees is not None and final is not None and abs(degrees - final) > _SAME_C:
            break
        first -= 1
    return {"reached": first <= _PARTS - 2, "after_s": first * width_s, "by": by}


def _medians(points: Sequence[tuple[float, float]], start_s: float, width_s: float) -> list[float | None]:
    parts: list[list[float]] = [[] for _ in range(_PARTS)]
    for at_s, value in points:
        index = int((at_s - start_s) / width_s) if width_s > 0 else 0
        if at_s >= start_s and index <= _PARTS:
            parts[min(index, _PARTS - 1)].append(value)
    return [statistics.median(part) if part else None for part in parts]
