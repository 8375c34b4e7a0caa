"""Capacity and rate-distortion of discrete sources by Blahut and Arimoto's iterations, classical and semantic.

Every result carries `gap_bits`: a proven bound, from duality, on how far it can be from the truth. The partitions into
synonymous sets are given, not searched for. Without them all is classical.

Semantic capacity: max over p(x) of I^s = H(X) + H(Y) - H_s(X~, Y~), which is concave in p(x). The update is
p <- p^(1 - step) exp(step * sum_y w(y|x) ln(P(set of x, set of y) / r(y))): Blahut's for step 1, which is safe when no
outputs are synonyms; with synonymous outputs the objective is smooth relative to entropy with constant 2, so step 1/2.
Semantic rate-distortion: min over q of I_s = H_s(X~) + H_s(Y~) - H(X, Y) with E d <= D, which is convex, by
q(y|x) ~ f(set of y) exp(-slope * d), f = the sets' probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgesem.errors import UsageError
from edgesem.information.discrete import Array, Labels, Sets, entropy_of, grouped, merge, partition, probabilities

_MOST_SYMBOLS = 4096
_TINY = 1e-300


@dataclass(frozen=True)
class Capacity:
    """What a channel can carry, in bits a use: at least `bits`, at most `bits + gap_bits`."""

    bits: float
    gap_bits: float
    distribution: Array
    """Of the inputs that reach it."""
    iterations: int
    converged: bool
    """The gap came below the tolerance before the iterations ended."""
    classical_bits: float
    """The capacity without synonyms."""


@dataclass(frozen=True)
class Rate:
    """What must be spent at a distortion, in bits a symbol: at most `bits`, at least `bits - gap_bits`."""

    bits: float
    """Never negative; see `signed_bits`."""
    signed_bits: float
    """I_s itself: below 0, synonyms alone give more freedom than the distortion needs."""
    distortion: float
    gap_bits: float
    slope: float
    """-dR/dD in nats."""
    iterations: int
    converged: bool
    classical_bits: float
    """R(D) without synonyms, at the same distortion."""


def capacity(
    channel: ArrayLike,
    input_sets: Labels | None = None,
    output_sets: Labels | None = None,
    *,
    tolerance_bits: float = 1e-9,
    most_iterations: int = 100_000,
) -> Capacity:
    """The capacity of w(y|x), [inputs, outputs], rows summing to 1; with sets, the semantic one."""
    w = _channel(channel)
    rows, columns = partition(input_sets, w.shape[0]), partition(output_sets, w.shape[1])
    step = 1.0 if columns.max() + 1 == w.shape[1] else 0.5
    log_p = np.full(w.shape[0], -math.log(w.shape[0]))
    value, gap, used = 0.0, math.inf, 0
    while used < most_iterations:
        used += 1
        p = np.exp(log_p)
        joint = p[:, None] * w
        pairs, output = merge(joint, rows, columns), joint.sum(0)
        ratio = np.log(np.maximum(pairs, _TINY))[rows[:, None], columns] - np.log(np.maximum(output, _TINY))
        score = (w * ratio).sum(1)
        value = float(p @ (score - log_p))
        gap = float((score - log_p).max() - value)
        if gap <= tolerance_bits * math.log(2):
            break
        log_p = (1 - step) * log_p + step * score
        log_p -= _log_sum(log_p)
    bits = value / math.log(2)
    semantic = input_sets is not None or output_sets is not None
    classical = capacity(w, tolerance_bits=tolerance_bits, most_iterations=most_iterations).bits if semantic else bits
    gap_bits = max(gap, 0.0) / math.log(2)
    return Capacity(bits, gap_bits, np.exp(log_p), used, gap_bits <= tolerance_bits, classical)


def rate_distortion(
    source: ArrayLike,
    distortion: ArrayLike,
    most_distortion: float,
    source_sets: Labels | None = None,
    output_sets: Labels | None = None,
    *,
    tolerance_bits: float = 1e-9,
    most_iterations: int = 5_000,
) -> Rate:
    """R(D) of a source under d(x, y), [source, outputs]; with sets, R_s(D).

    Raises UsageError for a distortion below the least that any code can reach.
    """
    p, d = probabilities(source, 1), _distortion(source, distortion)
    least = float(p @ d.min(1))
    if not most_distortion >= least:
        raise UsageError(
            f"no code has a distortion of {most_distortion:g}, the least possible is {least:g}: ask for more"
        )
    columns = partition(output_sets, d.shape[1])
    # H(X | X~), which every way to code saves alike
    saved = entropy_of(p) - entropy_of(grouped(p, partition(source_sets, p.size)))
    free = _free_of_charge(p, d, columns)
    if free.distortion <= most_distortion:
        point, upper, gap, good = free, free.nats, 0.0, True
    else:
        point, upper, gap, good = _search(p, d, columns, most_distortion, tolerance_bits, most_iterations)
    signed = upper / math.log(2) - saved
    classical = max(signed, 0.0)
    if source_sets is not None or output_sets is not None:
        classical = rate_distortion(
            p, d, most_distortion, tolerance_bits=tolerance_bits, most_iterations=most_iterations
        ).bits
    reached = min(most_distortion, free.distortion)
    return Rate(
        max(signed, 0.0) + 0.0, signed, reached, gap / math.log(2), point.slope, point.iterations, good, classical
    )


@dataclass(frozen=True)
class _Point:
    """One point of a rate-distortion curve, where its slope is -`slope`. Rates here are in nats."""

    nats: float
    distortion: float
    slope: float
    gap_nats: float
    sets: Array
    """Probabilities of the sets of outputs."""
    iterations: int

    def below(self, distortion: float) -> float:
        """What the curve has at least at another distortion: the tangent here."""
        return self.nats - self.gap_nats + self.slope * (self.distortion - distortion)


def _search(
    p: Array, d: Array, columns: Sets, wanted: float, tolerance_bits: float, most_iterations: int
) -> tuple[_Point, float, float, bool]:
    """The point, the rate in nats, its gap and whether that is small enough, at a distortion the curve must pay for.

    Bisects the slope between a coarser and a finer point. Between the two, time can be shared, so their chord is
    reachable; their tangents are below all that is. Ends too when a narrower bracket could not shrink the gap further.
    """
    spread = float(d.max() - d.min()) or 1.0
    coarse = finer = _iterate(p, d, columns, 1 / spread, None, tolerance_bits, most_iterations)
    while coarse.distortion < wanted and coarse.slope * spread > 1e-12:
        finer = coarse
        coarse = _iterate(p, d, columns, coarse.slope / 4, None, tolerance_bits, most_iterations)
    while finer.distortion > wanted and finer.slope * spread < 1e9:
        coarse = finer
        finer = _iterate(p, d, columns, finer.slope * 4, None, tolerance_bits, most_iterations)
    iterations = coarse.iterations + finer.iterations
    for _ in range(200):
        upper = _chord(coarse, finer, wanted)
        gap = max(0.0, upper - max(coarse.below(wanted), finer.below(wanted)))
        lost = (finer.slope - coarse.slope) * (coarse.distortion - finer.distortion)
        if gap <= tolerance_bits * math.log(2) or lost <= 0.1 * tolerance_bits or _same(coarse.slope, finer.slope):
            break
        slope = math.sqrt(coarse.slope * finer.slope)
        start = np.maximum(finer.sets, 1e-9 / finer.sets.size)  # what was given up may be wanted at another slope
        middle = _iterate(p, d, columns, slope, start / start.sum(), tolerance_bits / 4, most_iterations)
        iterations += middle.iterations
        if middle.distortion > wanted:
            coarse = middle
        else:
            finer = middle
    nearer = _Point(upper, wanted, finer.slope, gap, finer.sets, iterations)
    return nearer, upper, gap, gap <= tolerance_bits * math.log(2)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-14 * max(abs(a), abs(b))


def _chord(coarse: _Point, finer: _Point, wanted: float) -> float:
    width = coarse.distortion - finer.distortion
    share = (coarse.distortion - wanted) / width if width > 0 else 1.0
    return coarse.nats + min(max(share, 0.0), 1.0) * (finer.nats - coarse.nats)


def _iterate(
    p: Array,
    d: Array,
    columns: Sets,
    slope: float,
    start: Array | None,
    tolerance_bits: float,
    most_iterations: int,
) -> _Point:
    """Blahut's iteration at one slope, over sets of outputs.

    The gap is ln max_j c(j): with c <= 1 everywhere, lambda = 1 / Z would be a feasible point of the dual problem.
    """
    count = int(columns.max()) + 1
    floor = d.min(1)
    weight = np.exp(-slope * (d - floor[:, None]))  # of the least distortion 1, so that nothing underflows
    kernel = np.zeros((p.size, count))
    np.add.at(kernel.T, columns, weight.T)
    moments = np.zeros((p.size, count))
    np.add.at(moments.T, columns, (weight * d).T)
    sets = np.full(count, 1 / count) if start is None else start
    for used in range(1, most_iterations + 1):
        total = kernel @ sets
        c = (p / np.maximum(total, _TINY)) @ kernel
        gap = math.log(max(float(c.max()), 1.0))
        if gap <= tolerance_bits * math.log(2) or used == most_iterations:
            break
        sets = sets * c
    mean = float(p @ ((moments @ sets) / np.maximum(total, _TINY)))
    value = -float(p @ (np.log(np.maximum(total, _TINY)) - slope * floor))
    return _Point(value - slope * mean, mean, slope, gap, sets, used)


def _free_of_charge(p: Array, d: Array, columns: Sets) -> _Point:
    """The best point at slope 0: say always the largest set, and of those the one that fits best."""
    sizes = np.bincount(columns)
    costs = np.bincount(columns, p @ d) / sizes
    costs[sizes < sizes.max()] = math.inf
    best = int(costs.argmin())
    return _Point(-math.log(sizes[best]), float(costs[best]), 0.0, 0.0, np.eye(sizes.size)[best], 0)


def _channel(values: ArrayLike) -> Array:
    w = np.asarray(values, np.float64)
    if w.ndim != 2 or min(w.shape) < 1 or max(w.shape) > _MOST_SYMBOLS:
        raise UsageError(f"a channel is [inputs, outputs], at most {_MOST_SYMBOLS} of each, got {list(w.shape)}")
    if not np.isfinite(w).all() or w.min() < 0 or np.abs(w.sum(1) - 1).max() > 1e-9:
        raise UsageError("each row of a channel must be a distribution: >= 0, sum 1")
    return np.asarray(w / w.sum(1, keepdims=True), np.float64)


def _distortion(source: ArrayLike, values: ArrayLike) -> Array:
    d, symbols = np.asarray(values, np.float64), np.size(source)
    if d.ndim != 2 or d.shape[0] != symbols or not d.shape[1] or max(d.shape) > _MOST_SYMBOLS:
        raise UsageError(f"a distortion is [{symbols} symbols, outputs], at most {_MOST_SYMBOLS}, got {list(d.shape)}")
    if not np.isfinite(d).all() or d.min() < 0:
        raise UsageError("distortions must be finite and >= 0")
    return d


def _log_sum(x: Array) -> float:
    top = float(x.max())
    return top + math.log(float(np.exp(x - top).sum()))
