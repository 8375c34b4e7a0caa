"""Rounding: which symbols of a pass are coded, and what they become."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.entropy import kernel
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import MEAN_GRID, PASSES, Planes
from edgesem.entropy.tables import MAX_RADIUS, Indices, Tables


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
