"""Rounding: which symbols of a pass are coded, and what they become."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.entropy import kernel
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import MEAN_GRID, PASSES, CodedPositions, Planes
from edgesem.entropy.tables import MAX_RADIUS, Indices, Tables
from edgesem.packet.copy_map import Mask

LARGE_STEPS = 0.4
"""A value that is off what is known by so many quantizer steps will hardly be rounded to 0; measured on photographs."""


class Wanted(NamedTuple):
    """The values that symbols should have: those of planes [n, positions], times steps [n, positions] or [n, 1], in
    whole quantizer steps, at `places` [m]."""

    planes: Planes
    steps: Planes
    places: npt.NDArray[np.int64]

    @property
    def values(self) -> Planes:
        """float32 [n, m]."""
        steps = self.steps if self.steps.shape[1] == 1 else self.steps[:, self.places]
        return self.planes[:, self.places] * steps


class Rounder:
    """What a sender fills a walk with: the values of a latent, rounded. It keeps the symbols."""

    def __init__(
        self,
        values: Planes,
        steps: Planes,
        tables: Tables,
        positions: CodedPositions,
        layers: int,
        *,
        inter: bool,
        ledger: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """values [96, h, w], steps per unit, [96, h, w] or [96, 1, 1]. inter: the frame has a reference. ledger,
        float64 [h * w]: gets the bits of each position added."""
        self.tables, self.ledger, self._positions, self._inter = tables, ledger, positions, inter
        self._values, self._steps = (
            np.ascontiguousarray(one, np.float32).reshape(len(one), -1) for one in (values, steps)
        )
        self.entries: list[list[Symbols]] = [[] for _ in range(layers)]
        """int32 table entries (see `Tables.entry`), by layer and pass."""
        self.bits: list[list[float]] = [[] for _ in range(layers)]
        """The ideal code length of each of them."""

    def __call__(self, index: int, mean: Planes, scale: Planes) -> Planes:
        """Round a pass: see `edgesem.codec.context.Walk`."""
        wanted, tables = self.wanted(index), self.tables
        if self.ledger is not None:
            coded, _ = coded_of(scale, tables.first, index, self._inter)
        entries = rounded(mean, scale, wanted, tables, index, self._inter)
        self.took(index, entries)
        if self.ledger is not None:
            spent = np.zeros(scale.size)
            spent[coded] = tables.bits[entries]
            here = wanted.places
            self.ledger[here] += spent.reshape(-1, max(here.size, 1)).sum(0)[: here.size]
        return mean

    def wanted(self, index: int) -> Wanted:
        """The values of a pass, at the positions that are coded."""
        own = np.s_[PASSES[index].start : PASSES[index].stop]
        return Wanted(self._values[own], self._steps[own], self._positions.of(index))

    def least(self, index: int) -> int:
        """The lowest table that a pass uses."""
        return self.tables.first if self._inter and PASSES[index].group == 0 else 0

    def took(self, index: int, entries: Symbols) -> None:
        """Keep what a pass was rounded to."""
        group = PASSES[index].group
        self.entries[group].append(entries)
        self.bits[group].append(float(self.tables.bits.take(entries).sum()))


def rounded(mean: Planes, scale: Planes, wanted: Wanted, tables: Tables, index: int, inter: bool) -> Symbols:
    """The entries of the symbols of pass `index` that are coded; `mean` becomes what is decoded. [n * m] each."""
    loops = kernel.load()
    if loops is not None:
        return loops.round(mean, scale, wanted, tables, tables.first if inter and PASSES[index].group == 0 else 0)
    coded, scales = coded_of(scale, tables.first, index, inter)
    expected = mean.take(coded)
    off = np.rint(wanted.values.ravel().take(coded) - expected / MEAN_GRID)
    symbols = tables.clipped(off.clip(-MAX_RADIUS, MAX_RADIUS).astype(np.int32), scales)
    entries = tables.entry(symbols, scales)
    mean[coded] = expected + tables.eighths.take(entries)
    return entries


def coded_of(scale: Planes, first: int, index: int, inter: bool) -> tuple[Indices, Indices]:
    """Indices of the symbols of pass `index` that are coded, and their scale indices.

    Coded are those whose table is `first` or a later one: earlier tables hold the symbol 0 alone. In the base layer of
    an inter frame all symbols are coded, with table `first` at least: where no change was expected one may still come,
    and the context model of the other layers learns of it from the base layer.
    """
    if inter and PASSES[index].group == 0:
        scale = np.maximum(scale, first)
    coded = np.flatnonzero(scale >= first)
    return coded, scale.take(coded).astype(np.int64)


def count_large(values: Planes, steps: Planes, reference: Planes | None, copied: Mask | None) -> int:
    """How many values [n, h, w] are off a reference, in 1/8 steps, or off 0, by LARGE_STEPS, where they are coded.

    steps: per unit, [n, h, w] or [n, 1, 1]. copied: positions that are not coded, [h, w].
    """
    loops = kernel.load()
    if loops is not None:
        return loops.large(values, steps, reference, copied, LARGE_STEPS)
    off = values * steps
    if reference is not None:
        off -= reference / np.float32(MEAN_GRID)
    large = np.abs(off, out=off) > LARGE_STEPS
    if copied is not None:
        large &= ~copied
    return int(np.count_nonzero(large))
