"""Energy of a time window from readings of a power meter: gross, net of idling, and how well it was observed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from runtime.profile.timing import Window

MIN_SAMPLES = 20
MIN_COVERAGE = 0.95
GAP_PERIODS = 3.0
_RESAMPLES = 400
_SLICES = 10


class Sample(NamedTuple):
    """One reading of a meter: the clock before and after it, and watts, or joules on a counter."""

    start_s: float
    end_s: float
    value: float

    @property
    def at_s(self) -> float:
        """The time that it holds for: the middle, because the chip was read somewhere between the two."""
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True)
class WindowEnergy:
    """Energy that a meter measured in a window."""

    energy_j: float
    """Of the whole window: what was not observed is taken for the mean of what was."""
    mean_w: float
    seconds: float
    samples: int
    coverage: float
    """Share of the window that was observed."""
    gaps: int
    """Stretches without a reading, which were left out."""


def window_energy(samples: Sequence[Sample], window: Window, *, counts: bool, period_s: float) -> WindowEnergy | str:
    """The energy of a window, or the reason why it cannot be told.

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
        return f"only {coverage:.0%} of the window was observed ({gaps} gaps): meter too slow or board too busy"
    mean_w = energy_j / seen_s
    return WindowEnergy(mean_w * window.seconds, mean_w, window.seconds, len(inside), coverage, gaps)


def power_series(samples: Sequence[Sample], *, counts: bool) -> list[tuple[float, float]]:
    """(time, watts) of each reading; of a counter, its rise between two readings."""
    if not counts:
        return [(sample.at_s, sample.value) for sample in samples]
    pairs = pairwise(samples)
    return [((a.at_s + b.at_s) / 2, (b.value - a.value) / (b.at_s - a.at_s)) for a, b in pairs if b.at_s > a.at_s]


def mean_power_interval(
    samples: Sequence[Sample], window: Window, *, counts: bool, period_s: float
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean power in watts, over ten slices of the window; None if they are too short."""
    width_s = window.seconds / _SLICES
    means = []
    for index in range(_SLICES):
        start_s = window.start_s + index * width_s
        part = [s for s in samples if start_s - period_s <= s.at_s <= start_s + width_s + period_s]
        powers = [
            power_w for at_s, power_w in power_series(part, counts=counts) if start_s <= at_s <= start_s + width_s
        ]
        if not powers:
            return None
        means.append(sum(powers) / len(powers))
    source = random.Random(0)
    sums = sorted(sum(source.choices(means, k=_SLICES)) / _SLICES for _ in range(_RESAMPLES))
    return sums[round(0.025 * _RESAMPLES)], sums[round(0.975 * _RESAMPLES) - 1]


@dataclass(frozen=True)
class Ledger:
    """Readings of a whole run with its idle windows; gives the energy of each phase."""

    samples: Sequence[Sample]
    counts: bool
    period_s: float
    before: Window | None = None
    after: Window | None = None

    def idle_w(self) -> tuple[float | None, float | None]:
        """Mean power of the idle windows before and after, each None if it could not be measured."""
        seen = [self._energy(window) if window else None for window in (self.before, self.after)]
        first, second = (part.mean_w if isinstance(part, WindowEnergy) else None for part in seen)
        return first, second

    def account(self, window: Window, frames: int, decoded_bytes: int = 0) -> dict[str, Any] | str:
        """Joules of a phase that worked on so many frames, or the reason why they cannot be told.

        Net is beyond the mean power of the idle windows over the same time; null without them.
        """
        total = self._energy(window)
        if isinstance(total, str):
            return total
        idles = [idle_w for idle_w in self.idle_w() if idle_w is not None]
        net_j = total.energy_j - sum(idles) / len(idles) * total.seconds if idles else None
        spread = mean_power_interval(self.samples, window, counts=self.counts, period_s=self.period_s)
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

    def _energy(self, window: Window) -> WindowEnergy | str:
        return window_energy(self.samples, window, counts=self.counts, period_s=self.period_s)
