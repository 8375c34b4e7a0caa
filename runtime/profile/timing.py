"""Timing of stages: stopwatch, percentiles, timed phases of repeated work, and their steady state."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

WARM_UP_FRAMES = 3
_PARTS = 8
_SAME_LATENCY = 0.03
_SAME_C = 1.5


class Window(NamedTuple):
    """A stretch of time, in seconds of the monotonic clock."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Phase:
    """A window of repeated work of one kind: how many frames, how long each took and when it ended."""

    window: Window
    frames: int
    finished: list[tuple[float, float]]
    """(monotonic time, seconds for the whole frame) of each."""
    decoded_bytes: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, interpolated; `values` must not be empty."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def timed(work: Callable[[], int], seconds: float) -> Phase:
    """Repeat `work`, which returns the bytes that it decoded, for so long, at least once."""
    start_s = now_s = time.monotonic()
    finished: list[tuple[float, float]] = []
    decoded = 0
    while now_s - start_s < seconds or not finished:
        began_s = now_s
        decoded += work()
        now_s = time.monotonic()
        finished.append((now_s, now_s - began_s))
    return Phase(Window(start_s, now_s), len(finished), finished, decoded)


def steady(latencies: Sequence[tuple[float, float]], temperatures: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Since when latency, and temperature where it is known, have been as in the last eighth of a run.

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


class Stopwatch:
    """Durations of stages, frame by frame. Warm-up frames are kept apart, because caches and graphs load in them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._warm: dict[str, list[float]] = {}
        self._durations: dict[str, list[float]] = {}
        self.warming = True

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside, as one frame's part of that stage."""
        start_s = self._clock()
        yield
        into = self._warm if self.warming else self._durations
        into.setdefault(name, []).append(self._clock() - start_s)

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each stage p50_s, p95_s, p99_s, mean_s, the number of frames, and the duration of the very first one."""
        result = {}
        for name, values in self._durations.items():
            result[name] = {
                "p50_s": percentile(values, 0.5),
                "p95_s": percentile(values, 0.95),
                "p99_s": percentile(values, 0.99),
                "mean_s": sum(values) / len(values),
                "frames": len(values),
                "first_s": self._warm.get(name, values)[0],
            }
        return result
