"""Joules of a stretch of time, from readings of a meter: what was drawn, what beyond idling, how well it was seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

MIN_SAMPLES = 20
MIN_COVERAGE = 0.95
GAP_PERIODS = 3.0
_RESAMPLES = 400
_SLICES = 10


class Sample(NamedTuple):
    """One reading: the clock before and after it, and watts, or joules on a counter."""

    start_s: float
    end_s: float
    value: float

    @property
    def at_s(self) -> float:
        """When it holds: the middle, because nobody knows when between the two the chip was asked."""
        return (self.start_s + self.end_s) / 2


class Window(NamedTuple):
    """From when to when something ran."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Drawn:
    """What a meter saw in a window.

    energy_j: over the whole window, the mean of the seen part taken for what was not seen. coverage: share of the
    window that was seen. gaps: stretches without a reading that were left out.
    """

    energy_j: float
    mean_w: float
    seconds: float
    samples: int
    coverage: float
    gaps: int


def drawn(samples: Sequence[Sample], window: Window, *, counts: bool, period_s: float) -> Drawn | str:
    """What was drawn in a window, or why that cannot be said.

    Watts are integrated by trapezoids between the middles of the readings; the ends of the window are interpolated. A
    stretch longer than three periods is a gap and left out, except on a counter, which loses nothing.
    """
    inside = [sample for sample in samples if window.start_s <= sample.at_s <= window.end_s]
    if len(inside) < MIN_SAMPLES:
        return (
            f"{len(inside)} readings in {window.seconds:.1f} s, {MIN_SAMPLES} are the least: measure for "
            f"{MIN_SAMPLES * period_s * 1.2:.0f} s or longer"
        )
    energy_j = seen_s = 0.0
    gaps = 0
    for first, second in pairwise(samples):
        start_s, end_s = max(first.at_s, window.start_s), min(second.at_s, window.end_s)
        span_s = second.at_s - first.at_s
        if end_s <= start_s or span_s <= 0:
            continue
        if span_s > GAP_PERIODS * period_s and not counts:
            gaps += 1
            continue
        if counts:
            energy_j += (second.value - first.value) * (end_s - start_s) / span_s
        else:
            slope = (second.value - first.value) / span_s
            middle_w = first.value + slope * ((start_s + end_s) / 2 - first.at_s)
            energy_j += middle_w * (end_s - start_s)
        seen_s += end_s - start_s
    coverage = seen_s / window.seconds
    if coverage < MIN_COVERAGE:
        return f"only {coverage:.0%} of the window was seen ({gaps} gaps): the meter is too slow or the board too busy"
    mean_w = energy_j / seen_s
    return Drawn(mean_w * window.seconds, mean_w, window.seconds, len(inside), coverage, gaps)


def watts(samples: Sequence[Sample], *, counts: bool) -> list[tuple[float, float]]:
    """(time, watts) for drawing: the readings themselves, or the rise of a counter between two of them."""
    if not counts:
        return [(sample.at_s, sample.value) for sample in samples]
    pairs = pairwise(samples)
    return [((a.at_s + b.at_s) / 2, (b.value - a.value) / (b.at_s - a.at_s)) for a, b in pairs if b.at_s > a.at_s]


def interval_w(
    samples: Sequence[Sample], window: Window, *, counts: bool, period_s: float
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean power, over ten slices of the window; None if they are too short."""
    width_s = window.seconds / _SLICES
    means = []
    for index in range(_SLICES):
        start_s = window.start_s + index * width_s
        part = [s for s in samples if start_s - period_s <= s.at_s <= start_s + width_s + period_s]
        powers = [power_w for at_s, power_w in watts(part, counts=counts) if start_s <= at_s <= start_s + width_s]
        if not powers:
            return None
        means.append(sum(powers) / len(powers))
    source = random.Random(0)
    sums = sorted(sum(source.choices(means, k=_SLICES)) / _SLICES for _ in range(_RESAMPLES))
    return sums[round(0.025 * _RESAMPLES)], sums[round(0.975 * _RESAMPLES) - 1]


@dataclass(frozen=True)
class Ledger:
    """The readings of a whole run, and its idle windows: answers what each phase drew."""

    samples: Sequence[Sample]
    counts: bool
    period_s: float
    before: Window | None = None
    after: Window | None = None

    def idle_w(self) -> tuple[float | None, float | None]:
        """Mean power of the idle windows before and after, each None if it could not be measured."""
        seen = [self._drawn(window) if window else None for window in (self.before, self.after)]
        first, second = (part.mean_w if isinstance(part, Drawn) else None for part in seen)
        return first, second

    def account(self, window: Window, frames: int, decoded_bytes: int = 0) -> dict[str, Any] | str:
        """Joules of a phase that worked on so many frames, or why they cannot be told.

        net: beyond what the idle windows (their mean) would have drawn in the same time; null without them.
        """
        total = self._drawn(window)
        if isinstance(total, str):
            return total
        idles = [idle_w for idle_w in self.idle_w() if idle_w is not None]
        net_j = total.energy_j - sum(idles) / len(idles) * total.seconds if idles else None
        spread = interval_w(self.samples, window, counts=self.counts, period_s=self.period_s)
        account: dict[str, Any] = {
            "gross_j": total.energy_j,
            "net_j": net_j,
            "mean_w": total.mean_w,
            "mean_w_95": list(spread) if spread else None,
            "seconds": total.seconds,
            "samples": total.samples,
            "coverage": total.coverage,
            "gaps": total.gaps,
            "frames": frames,
            "gross_j_per_frame": total.energy_j / frames if frames else None,
            "net_j_per_frame": net_j / frames if frames and net_j is not None else None,
        }
        if decoded_bytes:
            account["gross_j_per_decoded_mb"] = total.energy_j / decoded_bytes * 1e6
            account["net_j_per_decoded_mb"] = net_j / decoded_bytes * 1e6 if net_j is not None else None
        return account

    def _drawn(self, window: Window) -> Drawn | str:
        return drawn(self.samples, window, counts=self.counts, period_s=self.period_s)
