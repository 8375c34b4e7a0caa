"""Meanings: the labels that judges give, joined into a few sets, as many as the number of pictures bears.

Information between labels can only be estimated with some samples for each pair of labels, so labels are joined into
sets: those of a file, or such as the pictures themselves suggest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError
from edgesem.information.estimate import sets_that_fit
from export.bench.semantics.observations import Observation, dense

OTHER = "other"
_STARTS, _ROUNDS = 8, 50
_MOST_BYTES = 1 << 22

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Meaning:
    """How one judge's labels are joined. of: observations -> the names of the sets that they are in."""

    of: Callable[[Sequence[Observation]], list[str]]
    sets: list[str]
    how: str
    """How labels were joined, for the report."""


def by_object(originals: Sequence[Observation], synonyms: dict[str, str]) -> Meaning:
    """The surest object's label, or the set it belongs to; all rare ones together are `other`."""

    def label(one: Observation) -> str:
        name = one.object or ""
        return synonyms.get(name, name)

    return _frequent(originals, label, "surest object" + (", in the given sets" if synonyms else ""))


def by_class(originals: Sequence[Observation], names: Sequence[str], synonyms: dict[str, str]) -> Meaning:
    """The likeliest set of the file; without one, clusters of pictures that the classifier takes for much the same."""
    if synonyms:
        return _frequent(originals, lambda one: _likeliest(one, names, synonyms), "likeliest of the given sets")
    roots = np.sqrt(dense(originals))
    count = max(1, min(sets_that_fit(len(originals)), len(np.unique(roots, axis=0))))
    centres = _clusters(roots, count)
    titles = [_title(centre, names, number) for number, centre in enumerate(centres)]

    def of(observations: Sequence[Observation]) -> list[str]:
        seen = np.sqrt(dense(observations))
        width = max(seen.shape[1], centres.shape[1])
        return [titles[i] for i in _nearest(_widened(seen, width), _widened(centres, width))[0]]

    how = "clusters of the classifier's distributions (k-means of their square roots), named after the likeliest class"
    return Meaning(of, titles, how)


def read_synonyms(path: Path) -> dict[str, str]:
    """Label -> set, from lines of a label, a tab and the name of its set. Raises InputError for any other line."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES} bytes: name a list of labels and sets")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    found = {}
    for number, line in enumerate(lines, 1):
        label, tab, name = line.partition("\t")
        if line.strip() and not (tab and label.strip() and name.strip()):
            raise InputError(f"{path}, line {number}: a label, a tab and the name of its set are expected")
        if line.strip():
            found[label.strip()] = name.strip()
    return found


def class_name(index: int, names: Sequence[str]) -> str:
    """What a class is called: its first name, where a file lists several."""
    return names[index].split(",")[0] if index < len(names) else f"class {index}"


def _frequent(originals: Sequence[Observation], label: Callable[[Observation], str], how: str) -> Meaning:
    counts = Counter(label(one) for one in originals)
    most = max(1, sets_that_fit(len(originals)))
    kept = sorted(counts, key=lambda name: (-counts[name], name))
    if len(kept) > most:
        kept = [*kept[: most - 1], OTHER]
        how += f"; all but the {most - 1} most frequent joined"
    inside = set(kept)

    def of(observations: Sequence[Observation]) -> list[str]:
        # What only a decoded picture shows is not among the originals' sets either
        fallback = OTHER if OTHER in inside else kept[-1]
        return [name if (name := label(one)) in inside else fallback for one in observations]

    return Meaning(of, kept, how)


def _likeliest(one: Observation, names: Sequence[str], synonyms: dict[str, str]) -> str:
    """The set whose classes together are likeliest: P(set) is the sum over its synonyms."""
    total: Counter[str] = Counter()
    for index, share in (one.classes or {}).items():
        number = int(index)
        full = names[number] if number < len(names) else index
        total[synonyms.get(full, synonyms.get(class_name(number, names), synonyms.get(index, OTHER)))] += share  # type: ignore[assignment]
    return max(sorted(total), key=lambda name: total[name])


def _clusters(points: Array, count: int) -> Array:
    """Centres of the best of a few k-means runs, each started far apart; the same for the same points."""
    random, best, best_cost = np.random.default_rng(0), points[:1], np.inf
    for _ in range(_STARTS):
        centres = points[[int(random.integers(len(points)))]]
        while len(centres) < count:
            far = _nearest(points, centres)[1]
            centres = np.vstack([centres, points[random.choice(len(points), p=far / far.sum())]])
        for _ in range(_ROUNDS):
            member = _nearest(points, centres)[0]
            moved = np.array([points[member == k].mean(0) if (member == k).any() else centres[k] for k in range(count)])
            if np.allclose(moved, centres):
                break
            centres = moved
        cost = float(_nearest(points, centres)[1].sum())
        if cost < best_cost:
            best, best_cost = centres, cost
    return best


def _nearest(points: Array, centres: Array) -> tuple[NDArray[np.intp], Array]:
    """The number of the nearest centre of each point, and the squared distance to it."""
    squared = (points**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * points @ centres.T
    return squared.argmin(axis=1), np.maximum(squared.min(axis=1), 0)


def _widened(matrix: Array, width: int) -> Array:
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))


def _title(centre: Array, names: Sequence[str], number: int) -> str:
    return f"{number + 1}: {class_name(int(centre.argmax()), names)} ..."
