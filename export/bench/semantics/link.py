"""Capacity of a link, second by second, from a rate or a trace file, and the information that gets through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesem.trace import load_trace

_SECOND_MS = 1000


@dataclass(frozen=True)
class Link:
    """A link's capacity, one value a second; of a rate, a single value."""

    name: str
    rates_bps: NDArray[np.float64]

    @property
    def mean_bps(self) -> float:
        """Over its whole length."""
        return float(self.rates_bps.mean())


@dataclass(frozen=True)
class Useful:
    """Semantic capacity of a link with one codec: information kept, a second."""

    adaptive_bps: float
    """Each second at the size that is best for that second's rate."""
    fixed_bps: float
    """At the one size that is best over all."""
    best: int
    """Which size that is."""
    frames_per_s: float
    """Frames that arrive at that size, on average."""


def open_link(text: str) -> Link:
    """The link of a rate (`64kbit`, `1.5mbit`) or of a trace file. Raises UsageError or InputError."""
    trace = load_trace(text)
    starts = range(0, len(trace.bytes_per_ms), _SECOND_MS)
    return Link(trace.name, np.array([8 * float(trace.bytes_per_ms[at : at + _SECOND_MS].sum()) for at in starts]))


def useful(link: Link, sizes_bytes: Sequence[float], kept_bits: Sequence[float], most_fps: float) -> Useful:
    """Information that gets through a second: frames that fit, at most `most_fps`, times what each keeps."""
    sizes, kept = np.asarray(sizes_bytes, np.float64), np.asarray(kept_bits, np.float64)
    frames = np.minimum(most_fps, link.rates_bps[:, None] / (8 * sizes))
    through = frames * kept
    fixed = through.mean(axis=0)
    best = int(fixed.argmax())
    return Useful(float(through.max(axis=1).mean()), float(fixed[best]), best, float(frames[:, best].mean()))
