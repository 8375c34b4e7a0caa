"""Frequency tables: the 64 integer distributions that symbols are coded with.

Table k gives symbols -r..r (r its radius) frequencies that sum to 2^16. The tables stand one behind the other, so that
a symbol under its table is a single number, its `entry`: that is what the entropy coder works with. A scale index from
the context model selects the table; index k stands for a logistic law of width SMALLEST_WIDTH * WIDTH_RATIO^k.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError

PRECISION = 16
SCALES = 64
MAX_RADIUS = 255
SMALLEST_WIDTH = 0.055  # width of the logistic law that scale index 0 was trained with, in quantizer steps
WIDTH_RATIO = (64 / SMALLEST_WIDTH) ** (1 / (SCALES - 1))  # index 63 has a width of 64 steps

CENTRES = (8, 16, 26)
"""Reconstruction points: for each of these that a scale index lies below, a symbol other than 0 stands for 1/8 of a
step less. Where a law is narrow, most of what is rounded to 1 lies just above 0.5. (Measured means of what was coded as
1, in photographs: 0.66, 0.75, 0.88 and 0.95.)"""

Integers = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tables:
    """Frequencies of all entries, ready for coding. Build with `Tables.of`.

    radius: int32 [64]; frequency, start: uint64 [entries]; bits: float32 [entries], the ideal code length; centre:
    int32 [64], the entry of symbol 0 of each table; ends: int64 [64], where each table ends among the entries.
    """

    radius: Integers
    frequency: npt.NDArray[np.uint64]
    start: npt.NDArray[np.uint64]
    bits: npt.NDArray[np.float32]
    centre: Integers
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, radius: npt.NDArray[np.integer], frequency: npt.NDArray[np.integer]) -> Tables:
        """Tables from radii [64] and the frequencies of all symbols, one table behind the other.

        Raises BundleError unless every table has 2r+1 positive frequencies that sum to 2^16.
        """
        if radius.dtype.kind not in "iu" or frequency.dtype.kind not in "iu":
            raise BundleError("tables: radii and frequencies must be integers")
        if radius.shape != (SCALES,) or radius.min(initial=0) < 0 or radius.max(initial=0) > MAX_RADIUS:
            raise BundleError(f"tables: there must be {SCALES} radii between 0 and {MAX_RADIUS}")
        sizes = 2 * radius.astype(np.int64) + 1
        ends = np.cumsum(sizes)
        if frequency.shape != (ends[-1],) or frequency.min(initial=1) < 1 or frequency.max(initial=1) > 1 << PRECISION:
            raise BundleError(f"tables: there must be {ends[-1]} frequencies between 1 and {1 << PRECISION}")
        sums = np.add.reduceat(frequency.astype(np.int64), ends - sizes)
        if (sums != 1 << PRECISION).any():
            raise BundleError(f"tables: the frequencies of each table must sum to {1 << PRECISION}")
        if (radius[np.argmax(radius > 0) :] == 0).any() and radius.any():
            raise BundleError("tables: those that code nothing must be the first ones")
        running = np.cumsum(frequency.astype(np.int64)) - frequency
        start = running - np.repeat(np.arange(SCALES, dtype=np.int64) << PRECISION, sizes)
        return cls(
            radius=radius.astype(np.int32),
            frequency=frequency.astype(np.uint64),
            start=start.astype(np.uint64),
            bits=(PRECISION - np.log2(frequency)).astype(np.float32),
            centre=(ends - radius - 1).astype(np.int32),
            ends=ends,
        )

    @cached_property
    def first(self) -> int:
        """The first table that codes anything; under those before it, every symbol is 0."""
        return int(np.argmax(self.radius > 0)) if self.radius.any() else SCALES

    @cached_property
    def lookup(self) -> npt.NDArray[np.uint16]:
        """uint16 [64 * 65536]: the entry of each slot, 8 MB that the compiled kernel does without."""
        return np.repeat(np.arange(self.ends[-1], dtype=np.uint16), self.frequency.astype(np.int64))

    @cached_property
    def likeliest(self) -> Integers:
        """int32 [64]: the entry of each table with the highest frequency."""
        sizes = 2 * self.radius + 1
        tops = [int(part.argmax()) for part in np.split(self.frequency, self.ends[:-1])]
        return (self.ends - sizes + tops).astype(np.int32)

    @cached_property
    def eighths(self) -> Integers:
        """int32 [entries]: what is added to a mean for each entry, in 1/8 steps."""
        scale = np.repeat(np.arange(SCALES), 2 * self.radius + 1)
        symbol = np.arange(self.ends[-1]) - np.repeat(self.centre, 2 * self.radius + 1)
        less = (scale[:, None] < CENTRES).sum(1)
        eighths: Integers = (8 * symbol - np.sign(symbol) * less).astype(np.int32)
        return eighths

    @cached_property
    def decoding(self) -> list[tuple[int, int]]:
        """Frequency and start of each entry, as Python integers."""
        return list(zip(self.frequency.tolist(), self.start.tolist(), strict=True))

    @cached_property
    def coding(self) -> list[tuple[int, int, int, int]]:
        """Each entry's least state that spills a word, its frequency, what is left of 2^16, and its start."""
        whole = 1 << PRECISION
        return [(frequency << PRECISION, frequency, whole - frequency, start) for frequency, start in self.decoding]

    @cached_property
    def guesses(self) -> list[tuple[int, int, int]]:
        """Frequency and start of each table's likeliest entry, and where the table begins in `lookup`."""
        return [(*self.decoding[entry], table << PRECISION) for table, entry in enumerate(self.likeliest.tolist())]

    def clipped(self, symbol: Integers, scale: Indices) -> Integers:
        """Symbols [n] as their tables, of scale indices [n], can hold them."""
        radius = self.radius.take(scale)
        return np.minimum(np.maximum(symbol, -radius), radius)

    def entry(self, symbol: Integers, scale: Indices) -> Integers:
        """int32 [n]: where symbols [n] stand under their tables; |symbol| must not exceed its table's radius."""
        return self.centre.take(scale) + symbol
