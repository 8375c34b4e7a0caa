"""Entropy and mutual information of known distributions, classical and over sets of synonyms, in bits.

A partition of an alphabet is given as one label a symbol: symbols of one label mean the same. Definitions after Niu and
Zhang, "A Mathematical Theory of Semantic Communication" (arXiv:2401.13387).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgesem.errors import UsageError

Array = NDArray[np.float64]
Sets = NDArray[np.intp]
Labels = Sequence[object] | NDArray[np.generic]


@dataclass(frozen=True)
class Entropy:
    """Entropy of a source over its sets of synonyms, and over its symbols."""

    semantic_bits: float
    classical_bits: float


@dataclass(frozen=True)
class MutualInformation:
    """Mutual information of two variables, between its semantic bounds: lower <= classical <= upper."""

    upper_bits: float
    """H(X) + H(Y) - H_s(X~, Y~): what a channel can carry when only meaning must arrive."""
    lower_bits: float
    """H_s(X~) + H_s(Y~) - H(X, Y): what must be spent to keep the meaning. May be negative."""
    classical_bits: float


def entropy(distribution: ArrayLike) -> float:
    """H(X) in bits, of a distribution of any shape."""
    return entropy_of(probabilities(distribution))


def semantic_entropy(distribution: ArrayLike, sets: Labels) -> Entropy:
    """H_s over sets of synonyms, beside H over symbols."""
    p = probabilities(distribution, 1)
    return Entropy(entropy_of(grouped(p, partition(sets, p.size))), entropy_of(p))


def mutual_information(
    joint: ArrayLike, row_sets: Labels | None = None, column_sets: Labels | None = None
) -> MutualInformation:
    """I(X; Y) of a joint distribution [X, Y], between its two semantic bounds."""
    p = probabilities(joint, 2)
    rows, columns = partition(row_sets, p.shape[0]), partition(column_sets, p.shape[1])
    merged = merge(p, rows, columns)
    h_x, h_y, h_xy = entropy_of(p.sum(1)), entropy_of(p.sum(0)), entropy_of(p)
    return MutualInformation(
        upper_bits=h_x + h_y - entropy_of(merged),
        lower_bits=entropy_of(merged.sum(1)) + entropy_of(merged.sum(0)) - h_xy,
        classical_bits=h_x + h_y - h_xy,
    )


def probabilities(values: ArrayLike, dimensions: int | None = None) -> Array:
    """`values` as a distribution, float64. Raises UsageError unless they are >= 0 and sum to 1 within 1e-9."""
    p = np.asarray(values, np.float64)
    if not p.size or (dimensions is not None and p.ndim != dimensions):
        raise UsageError(f"a distribution of {dimensions or 'some'} dimensions is needed, got shape {list(p.shape)}")
    if not np.isfinite(p).all() or p.min() < 0 or abs(p.sum() - 1) > 1e-9:
        raise UsageError(
            f"a distribution must be >= 0 and sum to 1, this one sums to {p.sum():.12g}, least {p.min():g}"
        )
    return np.asarray(p / p.sum(), np.float64)


def partition(sets: Labels | None, symbols: int) -> Sets:
    """The number of the set that each symbol is in; without labels, each symbol is a set of its own."""
    if sets is None:
        return np.arange(symbols)
    labels = [str(label) for label in sets]
    if len(labels) != symbols:
        raise UsageError(f"{symbols} symbols need as many set labels, got {len(labels)}")
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.intp)


def grouped(p: Array, sets: Sets) -> Array:
    """Probabilities of the sets."""
    return np.asarray(np.bincount(sets, p), np.float64)


def merge(matrix: Array, rows: Sets, columns: Sets) -> Array:
    """Sums of a matrix over pairs of sets."""
    out = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(out, (rows[:, None], columns[None, :]), matrix)
    return out


def entropy_of(p: Array) -> float:
    """Entropy in bits of what is known to be a distribution."""
    positive = p[p > 0]
    return float(-(positive * np.log2(positive)).sum()) + 0.0
