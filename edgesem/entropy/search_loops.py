"""Search loops: what the compiled kernel works out for a sender before it codes, by the functions of search.c."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from edgesem.entropy.tables import Integers

Rows = npt.NDArray[np.int16]
Planes = npt.NDArray[np.float32]


class SearchLoops:
    """The functions of search.c. `edgesem.entropy.kernel.Kernel` loads them.

    All raise TypeError for arrays that do not fit each other, and IndexError for what lies beyond one.
    """

    def __init__(self, c: SimpleNamespace) -> None:
        self._c = c

    def count(self, values: Planes, limits: Planes) -> Integers:
        """How many of one position in four of [n, h, w], up to 256 a side, exceed `limits` [k, 2, n]: [k, 2, n].

        The first of two limits is for a value's size, the other for its distance from the mean of its neighbours.
        """
        values, counts = np.ascontiguousarray(values, np.float32), np.empty(limits.shape, np.int32)
        if limits.shape[1:] != (2, len(values)):
            raise TypeError(f"search: there must be two limits for each of {len(values)} planes")
        _within(self._c.count(values, *values.shape, limits, len(limits), counts))
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
        sizes = len(planes), planes[0].size, scale, scale[0, 0].size, len(scale)
        _within(self._c.excess(planes, *sizes, left, large, sums, counts if counted else None))
        return sums, counts

    def off(self, own: Planes, other: Planes, scale: Planes, most: float) -> Planes:
        """Squared differences of planes [n, ...], times scale [n], none above `most`, in sum over planes."""
        own, other, scale = (np.ascontiguousarray(one, np.float32) for one in (own, other, scale))
        off = np.zeros(own.shape[1:], np.float32)
        if own.shape != other.shape or scale.shape != own.shape[:1]:
            raise TypeError("search: arrays of planes must have one shape, and a scale for each plane")
        _within(self._c.off(own, other, len(own), off.size, scale, most, off))
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
        _within(self._c.differ(*given, len(own), own[0].size, times, error, change))
        return error, change

    def in_steps(self, planes: Planes, steps: Planes, most: float) -> Planes:
        """Planes [n, h, w] in 1/8 steps, rounded, none beyond `most`; steps per unit: [n, h, w] or [n, 1, 1]."""
        planes, steps = (np.ascontiguousarray(one, np.float32) for one in (planes, steps))
        if len(steps) != len(planes):
            raise TypeError("search: there must be steps for each plane")
        found = np.empty(planes.shape, np.float32)
        _within(self._c.in_steps(planes, len(planes), planes[0].size, steps, steps[0].size, most, found))
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
        count, each = (planes[0].size, steps[0].size) if len(planes) else (0, 1)
        return _within(self._c.large(planes, reference, len(planes), count, steps, each, copied, limit))

    def in_units(self, values: Planes, places: npt.NDArray[np.int64], steps: Planes, planes: Planes) -> None:
        """Put values [n, places], in 1/8 steps, into planes [n, positions] at their places, in units of the encoder.

        steps per unit: [n, positions] or [n, 1]. Raises IndexError for a place that there is not.
        """
        if values.shape != (len(planes), places.size) or len(steps) != len(planes):
            raise TypeError("search: there must be a value for each place, and steps for each plane")
        _within(self._c.in_units(values, len(values), places, steps, steps.shape[1], planes, planes.shape[1]))

    def smooth(self, saved: Planes, border: float, sweeps: int) -> tuple[npt.NDArray[np.bool_], int]:
        """What is copied of positions [h, w], up to 256 a side, that save so much if they are coded, where borders cost
        so much; and the bits of the map of that."""
        saved, copied = np.ascontiguousarray(saved, np.float32), np.empty(saved.shape, bool)
        return copied, _within(self._c.smooth(saved, *saved.shape, border, sweeps, copied))

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
        _within(self._c.match(wanted, had, *wanted.shape, changed, block, *around, *costs, best, field))

    def patches(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The 4 x 4 pixels of a frame [4h, 4w, 3], one patch behind the other: [h, w, 48]."""
        patches = np.empty((frame.shape[0] // 4, frame.shape[1] // 4, 48), np.uint8)
        if patches.size != frame.size:
            raise TypeError("search: a frame must have three channels and sides of whole patches")
        self._c.patches(frame, *patches.shape[:2], patches)
        return patches


def _within(result: int) -> int:
    """What a function returned. Raises IndexError if that says that something lies beyond an array."""
    if result < 0:
        raise IndexError("search: there are too many positions, or too few")
    return result
