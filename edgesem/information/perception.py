"""Rate, distortion and realism at once: the least bits for a distortion when the output must also look like the source.

Blau and Michaeli, "Rethinking Lossy Compression: The Rate-Distortion-Perception Tradeoff" (arXiv:1901.07821): min
I(X; Y) with E d <= D and divergence(p_X, p_Y) <= P. Here the divergence is total variation, 0 (perfect realism) to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgesem.errors import UsageError
from edgesem.information.blahut import rate_distortion
from edgesem.information.discrete import Array, probabilities

_TINY = 1e-300


@dataclass(frozen=True)
class RealRate:
    """What a distortion costs at a realism, in bits a symbol: at most `bits`, at least `bits - gap_bits`."""

    bits: float
    distortion: float
    divergence: float
    """Total variation between source and output that the found code has."""
    gap_bits: float
    iterations: int
    converged: bool
    classical_bits: float
    """R(D), without the wish for realism."""


@dataclass(frozen=True)
class _Point:
    nats: float
    distortion: float
    divergence: float
    slope: float
    gap_nats: float
    duals: tuple[Array, Array]
    output: Array
    iterations: int

    def below(self, distortion: float) -> float:
        return self.nats - self.gap_nats + self.slope * (self.distortion - distortion)


def rate_distortion_perception(
    source: ArrayLike,
    distortion: ArrayLike,
    most_distortion: float,
    most_divergence: float,
    *,
    tolerance_bits: float = 1e-8,
    most_iterations: int = 2_000,
) -> RealRate:
    """R(D, P) of a source under d(x, y), [symbols, symbols], P a total variation.

    Raises UsageError where no code is both so near and so real.
    """
    p, d = probabilities(source, 1), np.asarray(distortion, np.float64)
    if d.shape != (p.size, p.size) or not np.isfinite(d).all() or d.min() < 0:
        raise UsageError(
            f"a distortion of {p.size} x {p.size} symbols, finite and >= 0, is needed, got {list(d.shape)}"
        )
    if not 0 <= most_divergence <= 1:
        raise UsageError(f"a total variation is 0 to 1, got {most_divergence:g}")
    spread = float(d.max() - d.min()) or 1.0
    tolerance = tolerance_bits * math.log(2)

    def at(slope: float, start: _Point | None) -> _Point:
        return _iterate(p, d, slope, most_divergence, start, tolerance / 4, most_iterations)

    coarse = finer = at(1 / spread, None)
    while coarse.distortion < most_distortion and coarse.slope * spread > 1e-9:
        finer, coarse = coarse, at(coarse.slope / 4, coarse)
    while finer.distortion > most_distortion and finer.slope * spread < 1e4:
        coarse, finer = finer, at(finer.slope * 4, finer)
    if finer.distortion > most_distortion + 1e-9 * spread:
        raise UsageError(
            f"no code has a distortion of {most_distortion:g} at a total variation of {most_divergence:g}, "
            f"{finer.distortion:g} was reached: allow more of either"
        )
    upper, gap, iterations = finer.nats, math.inf, coarse.iterations + finer.iterations
    for _ in range(100):
        width = coarse.distortion - finer.distortion
        share = min(max((coarse.distortion - most_distortion) / width, 0.0), 1.0) if width > 0 else 1.0
        upper = coarse.nats + share * (finer.nats - coarse.nats)
        # Below slope 0 the rate cannot go: distortion that nobody needs
        gap = max(0.0, upper - max(0.0, coarse.below(most_distortion), finer.below(most_distortion)))
        lost = (finer.slope - coarse.slope) * width
        if gap <= tolerance or lost <= 0.1 * tolerance or finer.slope - coarse.slope <= 1e-13 * finer.slope:
            break
        middle = at(math.sqrt(coarse.slope * finer.slope), finer)
        iterations += middle.iterations
        if middle.distortion > most_distortion:
            coarse = middle
        else:
            finer = middle
    return RealRate(
        bits=max(upper, 0.0) / math.log(2),
        distortion=min(most_distortion, coarse.distortion),
        divergence=max(coarse.divergence, finer.divergence),
        gap_bits=gap / math.log(2),
        iterations=iterations,
        converged=gap <= tolerance,
        classical_bits=rate_distortion(p, d, most_distortion, tolerance_bits=tolerance_bits).bits,
    )


def _iterate(
    p: Array, d: Array, slope: float, most: float, start: _Point | None, tolerance: float, most_iterations: int
) -> _Point:
    """The code at one slope: Sinkhorn's scaling in x, a projection on the total variation in y, Blahut's update.

    q(y|x) = a(x) f(y) b(y) exp(-slope d), where ln b is the dual variable of the realism. Lower bound: the sum of
    p ln a and p ln b, less P (max ln b - min ln b), less ln max_y b(y) sum_x p a exp(-slope d).
    """
    floor = d.min(1)
    kernel = np.exp(-slope * (d - floor[:, None]))
    log_b = np.zeros(p.size) if start is None else start.duals[1]
    output = p if start is None else np.maximum(start.output, 1e-12 * p)
    gap, divergence, value, mean = math.inf, 1.0, 0.0, 0.0
    a = np.ones(p.size)
    for used in range(1, most_iterations + 1):
        weights = output * np.exp(log_b)
        total = np.maximum(kernel @ weights, _TINY)
        a = 1 / total
        reach = (p * a) @ kernel
        if used % 10 == 0 or used == most_iterations:
            drawn = weights * reach  # the output's distribution: rows are exact here, so it sums to 1
            divergence = float(np.abs(drawn - p).sum()) / 2
            mean = float((p * a) @ (kernel * d) @ weights)
            relative = np.log(np.maximum(weights, _TINY)) - np.log(np.maximum(drawn, _TINY))
            value = float(p @ (np.log(a) + slope * floor) + drawn @ relative) - slope * mean
            lower = float(p @ (np.log(a) + slope * floor + log_b)) - most * float(log_b.max() - log_b.min())
            lower -= math.log(max(float((np.exp(log_b) * reach).max()), _TINY))
            gap = value + slope * mean - lower
            if abs(gap) <= tolerance and divergence <= most + tolerance:
                break
        base = output * reach
        log_b = _towards(p, base, most)
        output = base * np.exp(log_b)
        output /= output.sum()
    return _Point(value, mean, divergence, slope, abs(gap), (a, log_b), output, used)


def _towards(p: Array, base: Array, most: float) -> Array:
    """ln b so that base * b is the distribution nearest to `base` (in relative entropy) that is within `most` of p."""
    wanted = np.log(np.maximum(p, _TINY)) - np.log(np.maximum(base, _TINY))
    if np.abs(p - base).sum() / 2 <= most:
        return np.zeros(p.size)
    low, high = 0.0, float(np.abs(wanted).max())
    for _ in range(60):
        middle = (low + high) / 2
        distance = np.abs(base * np.exp(np.clip(wanted, -middle, middle)) - p).sum() / 2
        low, high = (middle, high) if distance > most else (low, middle)
    return np.asarray(np.clip(wanted, -high, high), np.float64)
