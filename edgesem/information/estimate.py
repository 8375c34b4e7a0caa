"""What samples say about information: in bits, with an interval or a ceiling, or refused with EstimateError.

Preferred is the plug-in estimate over task labels. The variational bound InfoNCE cannot say more than log2 N of N
pairs, however much there is; KSG sees no more than a few dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import EstimateError, UsageError

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Labels = Sequence[object] | NDArray[np.generic]

LEAST_SAMPLES = 30
SAMPLES_PER_CELL = 5
MOST_UNSEEN = 0.1
LEAST_NEIGHBOUR_SAMPLES = 100
MOST_DIMENSIONS = 6


@dataclass(frozen=True)
class Estimate:
    """A number from samples, and how far it can be trusted."""

    bits: float
    low_bits: float
    high_bits: float
    """Ends of the bootstrap interval, moved by the bootstrap's own bias."""
    plugin_bits: float
    """Without Miller and Madow's correction."""
    samples: int
    cells: int
    """How many different values, or pairs of values, could be told apart."""


@dataclass(frozen=True)
class Bound:
    """A lower bound on information that can never be above `ceiling_bits`, whatever the truth."""

    bits: float
    ceiling_bits: float
    samples: int

    @property
    def saturated(self) -> bool:
        """So near the ceiling that the truth may be far above it."""
        return self.bits > 0.9 * self.ceiling_bits


def entropy(labels: Labels, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """H of the source of these labels. Refused if more than a tenth of it has not been seen yet.

    The unseen share is estimated from the labels seen once (Good and Turing). Corrected by (cells - 1) / 2N nats
    (Miller 1955), but never above the log2 of the labels that were seen.
    """
    codes, cells = encode(labels)
    count = codes.size
    _enough(count, LEAST_SAMPLES, "an entropy")
    unseen = float((np.bincount(codes) == 1).sum()) / count
    if unseen > MOST_UNSEEN:
        raise EstimateError(
            f"{count} samples of {cells} labels: {unseen:.0%} of the source is still unseen (labels seen "
            f"once), {MOST_UNSEEN:.0%} is the most: give more samples, or join labels into sets"
        )
    return _with_interval(
        count, cells, lambda at: _corrected(codes[at], cells), _plugin(codes, cells), resamples, confidence, seed
    )


def mutual_information(
    first: Labels, second: Labels, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """I between two labels of the same things. Refused below 5 samples for each pair of values that could occur.

    Plug-in, each of the three entropies corrected after Miller and Madow, clipped to 0 .. the smaller entropy.
    """
    a, rows = encode(first)
    b, columns = encode(second)
    if a.size != b.size:
        raise UsageError(f"{a.size} labels cannot be paired with {b.size}")
    count, cells = a.size, rows * columns
    _enough(count, max(LEAST_SAMPLES, SAMPLES_PER_CELL * cells), f"information between {rows} and {columns} labels")
    pair = a * columns + b

    def value(at: Codes) -> float:
        h_a, h_b = _corrected(a[at], rows), _corrected(b[at], columns)
        return min(max(h_a + h_b - _corrected(pair[at], cells), 0.0), h_a, h_b)

    plugin = _plugin(a, rows) + _plugin(b, columns) - _plugin(pair, cells)
    return _with_interval(count, cells, value, plugin, resamples, confidence, seed)


def infonce(scores: Array, temperatures: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)) -> Bound:
    """InfoNCE's lower bound from a critic's scores [N, N], where pair i stands at [i, i] (arXiv:1807.03748).

    I >= log2 N - loss, so never more than log2 N. The best of a few temperatures is taken, which holds on average up to
    the little that choosing one number among few can fit.
    """
    s = np.asarray(scores, np.float64)
    if s.ndim != 2 or s.shape[0] != s.shape[1] or not np.isfinite(s).all():
        raise UsageError(f"scores must be finite, [N, N], got {list(s.shape)}")
    count = s.shape[0]
    _enough(count, LEAST_SAMPLES, "InfoNCE")
    best = 0.0
    for temperature in temperatures:
        logits = s / temperature
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        best = max(best, math.log2(count) + float((np.diag(logits) - log_sum).mean()) / math.log(2))
    return Bound(min(best, math.log2(count)), math.log2(count), count)


def ksg(x: Array, y: Array, neighbours: int = 3) -> float:
    """I(X; Y) in bits of two continuous variables [N, dimensions] by Kraskov, Stoegbauer and Grassberger's first form.

    psi(k) + psi(N) - <psi(nx + 1) + psi(ny + 1)> (cond-mat/0305641). Refused below 100 samples, above 6 dimensions in
    all, and where it comes out above what N samples can show: N must be of the order of 2^I (arXiv:1411.2003).
    """
    x, y = _columns(x), _columns(y)
    count, dimensions = x.shape[0], x.shape[1] + y.shape[1]
    if y.shape[0] != count:
        raise UsageError(f"{count} samples cannot be paired with {y.shape[0]}")
    if not 1 <= neighbours <= 50:
        raise UsageError(f"neighbours must be 1 to 50, got {neighbours}")
    _enough(count, LEAST_NEIGHBOUR_SAMPLES, "a nearest-neighbour estimate")
    if dimensions > MOST_DIMENSIONS:
        raise EstimateError(
            f"{dimensions} dimensions in all: nearest neighbours mean nothing above {MOST_DIMENSIONS}: project first"
        )
    n_x, n_y = np.zeros(count), np.zeros(count)
    for i in range(count):  # a row at a time: memory stays O(N)
        d_x, d_y = np.abs(x - x[i]).max(axis=1), np.abs(y - y[i]).max(axis=1)
        d_x[i] = d_y[i] = math.inf
        radius = np.partition(np.maximum(d_x, d_y), neighbours - 1)[neighbours - 1]
        n_x[i], n_y[i] = (d_x < radius).sum(), (d_y < radius).sum()
    digamma = _digammas(count + 1)
    nats = digamma[neighbours] + digamma[count]
    nats -= float((digamma[n_x.astype(int) + 1] + digamma[n_y.astype(int) + 1]).mean())
    bits = max(float(nats) / math.log(2), 0.0)
    if bits > math.log2(count) - 2:
        raise EstimateError(f"{count} samples cannot show {bits:.1f} bits: give more than {2 ** (bits + 2):.0f}")
    return bits


def spectral_entropy(similarities: Array) -> float:
    """How many different things a set of N holds, in bits: the entropy of the eigenvalues of K / N, at most log2 N.

    K [N, N] holds similarities, 1 on the diagonal, positive semidefinite; 2 to this power is the Vendi score
    (arXiv:2210.02410).
    """
    k = np.asarray(similarities, np.float64)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not k.size or not np.allclose(np.diag(k), 1, atol=1e-3):
        raise UsageError(f"similarities must be [N, N] with 1 on the diagonal, got {list(k.shape)}")
    values = np.linalg.eigvalsh((k + k.T) / 2)
    values = np.clip(values, 0, None) / np.clip(values, 0, None).sum()
    positive = values[values > 0]
    return float(-(positive * np.log2(positive)).sum())


def sets_that_fit(samples: int) -> int:
    """How many values each of two labels may have for `mutual_information` to take so many samples; 0 if none."""
    return math.isqrt(samples // SAMPLES_PER_CELL) if samples >= LEAST_SAMPLES else 0


def encode(labels: Labels) -> tuple[Codes, int]:
    """Labels as numbers from 0, and how many there are."""
    values = np.asarray(labels)
    if values.ndim != 1 or not values.size:
        raise UsageError(f"labels must be a list with something in it, got shape {list(values.shape)}")
    names, codes = np.unique(values, return_inverse=True)
    return np.asarray(codes, np.intp), len(names)


def _with_interval(
    count: int,
    cells: int,
    value: Callable[[Codes], float],
    plugin: float,
    resamples: int,
    confidence: float,
    seed: int,
) -> Estimate:
    if not 0 < confidence < 1 or not 10 <= resamples <= 100_000:
        raise UsageError(f"confidence {confidence:g} and {resamples} resamples: 0..1 and 10 to 100000 are possible")
    bits = value(np.arange(count))
    random = np.random.default_rng(seed)
    drawn = np.array([value(random.integers(0, count, count)) for _ in range(resamples)])
    # Resampling adds the same bias once more; what counts is the spread around its own mean
    tails = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]) - drawn.mean()
    low, high = max(0.0, bits + float(tails[0])), bits + float(tails[1])
    return Estimate(bits, min(low, bits), max(high, bits), max(plugin, 0.0), count, cells)


def _plugin(codes: Codes, cells: int) -> float:
    share = np.bincount(codes, minlength=cells) / codes.size
    positive = share[share > 0]
    return float(-(positive * np.log2(positive)).sum())


def _corrected(codes: Codes, cells: int) -> float:
    counts = np.bincount(codes, minlength=cells)
    seen = counts[counts > 0]
    share = seen / codes.size
    bits = float(-(share * np.log2(share)).sum()) + (seen.size - 1) / (2 * codes.size * math.log(2))
    return min(bits, math.log2(cells))


def _digammas(most: int) -> Array:
    """psi(0..most), the first of them unused."""
    values = np.zeros(most + 1)
    values[1] = -np.euler_gamma
    values[2:] = values[1] + np.cumsum(1 / np.arange(1, most))
    return values


def _columns(x: Array) -> Array:
    values = np.asarray(x, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UsageError(f"samples must be finite, [N, dimensions], got {list(values.shape)}")
    return values


def _enough(samples: int, least: int, what: str) -> None:
    if samples < least:
        raise EstimateError(f"{samples} samples say nothing about {what}, {least} are the least: give more")
