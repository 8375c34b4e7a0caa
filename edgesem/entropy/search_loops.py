"""Search loops: what the compiled kernel works out for a sender before it codes, by the functions of search.c."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.entropy.tables import Integers

Rows = npt.NDArray[np.int16]
Planes = npt.NDArray[np.float32]


class SearchLoops:
    """The functions of search.c. `edgesem.entropy.kernel.Kernel` loads them.

    All raise TypeError for arrays that do not fit each other, and IndexError for what lies beyond one.
    """

    def _load_search(self, function: Callable[..., Any], a: Any, n: Any, f: Any, d: Any) -> None:
        """Get the functions: `function` takes a name and types, of an array, a whole number, a float and a double."""
        self._count = function("count", a, n, n, n, a, n, a)
        self._excess = function("excess", a, n, n, a, n, n, f, f, a, a)
        self._off = function("off", a, a, n, n, a, f, a)
        self._differ = function("differ", a, a, a, a, n, n, f, a, a)
        self._in_steps = function("in_steps", a, n, n, a, n, f, a)
        self._large = function("large", a, a, n, n, a, n, a, f)
        self._in_units = function("in_units", a, n, a, n, a, n, a, n)
        self._smooth = function("smooth", a, n, n, f, n, a)
        self._match = function("match", a, a, n, n, n, a, n, n, n, n, f, d, a, a)
        self._patches = function("patches", a, n, n, a)

    @abstractmethod
    def _at(self, array: npt.NDArray[Any], dtype: type[np.generic]) -> int:
        """Where an array begins, if it is what C takes it for."""

    def count(self, values: Planes, limits: Planes) -> Integers:
        """How many of one position in four of [n, h, w], up to 256 a side, exceed `limits` [k, 2, n]: [k, 2, n].

        The first of two limits is for a value's size, the other for its distance from the mean of its neighbours.
        """
        values, counts = np.ascontiguousarray(values, np.float32), np.empty(limits.shape, np.int32)
        if limits.shape[1:] != (2, len(values)):
            raise TypeError(f"search: there must be two limits for each of {len(values)} planes")
        _within(self._count(self._at(values, np.float32), *values.shape, self._at(limits, np.float32), len(limits),
                            self._at(counts, np.int32)))  # fmt: skip
        return counts

    def excess(
        self, planes: Planes, scale: Planes, left: float, large: float, *, counted: bool = True
    ) -> tuple[Planes, Planes]:
        """By how much planes [n, ...] exceed `left`, times each of `scale`, [k, n, ...] or [k, n, 1 ...], in sum over
        planes; and how many exceed `large`, if they are `counted`: [k, ...] each."""
        planes, scale = (np.ascontiguousarray(one, np.float32) for one in (planes, scale))
        if scale.shape[1] != len(planes):
            raise TypeError("search: there must be a scale for each plane")
        sums, counts = np.zeros((2, len(scale), *planes.shape[1:]), np.float32)
        _within(self._excess(self._at(planes, np.float32), len(planes), planes[0].size, self._at(scale, np.float32),
                             scale[0, 0].size, len(scale), left, large, self._at(sums, np.float32),
                             self._at(counts, np.float32) if counted else None))  # fmt: skip
        return sums, counts

    def off(self, own: Planes, other: Planes, scale: Planes, most: float) -> Planes:
        """Squared differences of planes [n, ...], times scale [n], none above `most`, in sum over planes."""
        own, other, scale = (np.ascontiguousarray(one, np.float32) for one in (own, other, scale))
        off = np.zeros(own.shape[1:], np.float32)
        if own.shape != other.shape or scale.shape != own.shape[:1]:
            raise TypeError("search: arrays of planes must have one shape, and a scale for each plane")
        _within(self._off(self._at(own, np.float32), self._at(other, np.float32), len(own), off.size,
                          self._at(scale, np.float32), most, self._at(off, np.float32)))  # fmt: skip
        return off

    def differ(
        self, own: Planes, reference: Planes, origin: Planes, noise: Planes, times: float
    ) -> tuple[Planes, Planes]:
        """Squared differences of planes [n, ...] to those of a reference, less twice the noise [n] of each plane; and
        to its origin, less `times` that, but not below 0."""
        given = [np.ascontiguousarray(one, np.float32) for one in (own, reference, origin, noise)]
        if not own.shape == reference.shape == origin.shape or noise.shape != own.shape[:1]:
            raise TypeError("search: arrays of planes must have one shape, and noise for each plane")
        error, change = np.empty((2, *own.shape), np.float32)
        _within(self._differ(*(self._at(one, np.float32) for one in given), len(own), own[0].size, times,
                             self._at(error, np.float32), self._at(change, np.float32)))  # fmt: skip
        return error, change

    def in_steps(self, planes: Planes, steps: Planes, most: float) -> Planes:
        """Planes [n, h, w] in 1/8 steps, rounded, none beyond `most`; steps per unit: [n, h, w] or [n, 1, 1]."""
        planes, steps = (np.ascontiguousarray(one, np.float32) for one in (planes, steps))
        if len(steps) != len(planes):
            raise TypeError("search: there must be steps for each plane")
        found = np.empty(planes.shape, np.float32)
        _within(self._in_steps(self._at(planes, np.float32), len(planes), planes[0].size, self._at(steps, np.float32),
                               steps[0].size, most, self._at(found, np.float32)))  # fmt: skip
        return found

    def large(
        self,
        planes: Planes,
        steps: Planes,
        reference: Planes | None,
        copied: npt.NDArray[np.bool_] | None,
        limit: float,
    ) -> int:
        """How many values of planes [n, h, w] are off a reference, in 1/8 steps, by more than `limit` steps, at
        positions [h, w] that are not copied; steps as above."""
        planes, steps = (np.ascontiguousarray(one, np.float32) for one in (planes, steps))
        if len(steps) != len(planes) or (reference is not None and reference.shape != planes.shape):
            raise TypeError("search: arrays of planes must have one shape, and steps for each plane")
        if copied is not None and copied.shape != planes.shape[1:]:
            raise TypeError("search: there must be as many positions that may be copied as a plane has")
        found: int = self._large(
            self._at(planes, np.float32),
            None if reference is None else self._at(reference, np.float32),
            len(planes),
            planes[0].size if len(planes) else 0,
            self._at(steps, np.float32),
            steps[0].size if len(planes) else 1,
            None if copied is None else self._at(copied, np.bool_),
            limit,
        )
        return _within(found)

    def in_units(self, values: Planes, places: npt.NDArray[np.int64], steps: Planes, planes: Planes) -> None:
        """Put values [n, places], in 1/8 steps, into planes [n, positions] at their places, in units of the encoder.

        steps per unit: [n, positions] or [n, 1]. Raises IndexError for a place that there is not.
        """
        if values.shape != (len(planes), places.size) or len(steps) != len(planes):
            raise TypeError("search: there must be a value for each place, and steps for each plane")
        _within(self._in_units(self._at(values, np.float32), len(values), self._at(places, np.int64), places.size,
                               self._at(steps, np.float32), steps.shape[1], self._at(planes, np.float32),
                               planes.shape[1]))  # fmt: skip

    def smooth(self, saved: Planes, border: float, sweeps: int) -> tuple[npt.NDArray[np.bool_], int]:
        """What is copied of positions [h, w], up to 256 a side, that save so much if they are coded, where borders cost
        so much; and the bits of the map of that."""
        saved, copied = np.ascontiguousarray(saved, np.float32), np.empty(saved.shape, bool)
        return copied, _within(self._smooth(self._at(saved, np.float32), *saved.shape, border, sweeps,
                                            self._at(copied, np.bool_)))  # fmt: skip

    def match(
        self,
        wanted: Planes,
        had: Planes,
        changed: npt.NDArray[np.bool_],
        block: int,
        around: tuple[int, int, int],
        costs: tuple[float, float],
        best: Planes,
        field: Rows,
    ) -> None:
        """Find, for blocks [a, b] of [n, h, w] that have changed, the nearest vectors: see search.c.

        around: rows and columns, and how far from these to look. costs: the most that a value is off, and of a vector.
        best, field: what is known, [a, b] and [a, b, 2], changed in place.
        """
        wanted, had = (np.ascontiguousarray(one, np.float32) for one in (wanted, had))
        blocks = tuple(-(-side // block) for side in wanted.shape[1:])
        if wanted.shape != had.shape or not changed.shape == best.shape == blocks or field.shape != (*blocks, 2):
            raise TypeError("search: arrays of planes, or of blocks, must have one shape")
        _within(self._match(self._at(wanted, np.float32), self._at(had, np.float32), *wanted.shape,
                            self._at(changed, np.bool_), block, *around, *costs, self._at(best, np.float32),
                            self._at(field, np.int16)))  # fmt: skip

    def patches(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The 4 x 4 pixels of a frame [4h, 4w, 3], one patch behind the other: [h, w, 48]."""
        patches = np.empty((frame.shape[0] // 4, frame.shape[1] // 4, 48), np.uint8)
        if patches.size != frame.size:
            raise TypeError("search: a frame must have three channels and sides of whole patches")
        self._patches(self._at(frame, np.uint8), *patches.shape[:2], self._at(patches, np.uint8))
        return patches


def _within(result: int) -> int:
    """What a function returned. Raises IndexError if that says that something lies beyond an array."""
    if result < 0:
        raise IndexError("search: there are too many positions, or too few")
    return result
