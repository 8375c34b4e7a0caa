"""Durations of the stages, frame by frame, and what they come to: medians, tails, warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

WARM_UP_FRAMES = 3


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies, interpolated; `values` must not be empty."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Stopwatch:
    """Durations by stage. The first frames are warm-up: kept apart, because caches and graphs load in them."""

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

    def durations(self, name: str) -> list[float]:
        """Seconds that each frame took in a stage, without warm-up."""
        return self._durations.get(name, [])

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each stage p50_s, p95_s, p99_s, mean_s, how many frames, and what the very first one took."""
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
