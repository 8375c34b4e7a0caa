"""Pass schedule: in which order the symbols of a latent are coded, and the latent's geometry.

A latent has 96 channels in four groups, the layers of a packet. A group is coded in passes over the positions. The
first group climbs a quincunx pyramid in five passes, so that only one position in sixteen is coded without neighbours.
The others take two checkerboard passes (He et al., arXiv:2103.15306), because the groups before them are known.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

CHANNELS = 96
GROUPS = (6, 18, 24, 48)
STRIDE = 16
MEAN_GRID = 8  # means and decoded values are multiples of 1/8 of a quantizer step
EXACT = 1 << 24  # float32 holds every integer below it, so the order of a sum cannot change a bit
VALUE_LIMIT = 2047  # |decoded value| in 1/8 steps; the proof that sums stay below EXACT rests on it
COARSE_LIMIT = 511  # |value| in 1/4 steps, the same for most passes
HIDDEN_LIMIT = 511  # of what is between two layers of a context network
PERIOD = 4  # rows and columns after which the schedule repeats
GATE_STEPS = 64  # resolution of the weight that a reference gets: 0 unused, 64 in full

Planes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """One sweep: channels `[start, stop)` of group `group`, at the positions of one or two phases.

    A phase (row, column) is that position and each that lies whole strides down or to the right of it. The network of
    the pass sees the first `seen` channels; the rest is unknown yet.
    """

    group: int
    start: int
    stop: int
    seen: int
    stride: int
    phases: tuple[tuple[int, int], ...]

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """bool [height, width]: the positions of this pass."""
        mask = np.zeros((height, width), bool)
        for row, column in self.phases:
            mask[row :: self.stride, column :: self.stride] = True
        return mask

    def read(self, planes: Planes) -> Planes:
        """What planes [96, h, w] of whole periods hold of this pass: [n, positions], row by row."""
        part = planes[self.start : self.stop]
        parts = [part[:, row :: self.stride, column :: self.stride] for row, column in self.phases]
        return np.stack(parts, 2).reshape(len(part), -1)

    def write(self, planes: Planes, part: Planes) -> None:
        """Put [n, positions] where `read` found it."""
        rows, columns = planes.shape[1] // self.stride, planes.shape[2] // self.stride
        part = part.reshape(self.stop - self.start, rows, len(self.phases), columns)
        for index, (row, column) in enumerate(self.phases):
            planes[self.start : self.stop, row :: self.stride, column :: self.stride] = part[:, :, index]


_EVEN, _ODD = (2, ((0, 0), (1, 1))), (2, ((0, 1), (1, 0)))  # the checkerboard
_PYRAMID = (4, ((0, 0),)), (4, ((2, 2),)), (4, ((0, 2), (2, 0))), (2, ((1, 1),)), _ODD


def _schedule() -> tuple[Pass, ...]:
    passes, start = [], 0
    for group, size in enumerate(GROUPS):
        seen, stop = start, start + size
        for stride, phases in _PYRAMID if group == 0 else (_EVEN, _ODD):
            passes.append(Pass(group, start, stop, seen, stride, phases))
            seen = stop
        start = stop
    return tuple(passes)


PASSES = _schedule()


def context_graph(index: int) -> str:
    """Name of the file that predicts pass `index`."""
    return f"context_{index:02d}.onnx"


def reference_graph(index: int) -> str:
    """Name of the file that predicts pass `index` of an inter frame; a bundle may lack them all."""
    return f"context_ref_{index:02d}.onnx"


@lru_cache(maxsize=256)
def positions(index: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """int64 [n]: the positions of pass `index` in a picture, counted row by row."""
    return np.flatnonzero(PASSES[index].mask(height, width))


class CodedPositions:
    """The `positions` of each pass that are coded, not copied; found once for passes of the same phases."""

    def __init__(self, shape: tuple[int, ...], copied: npt.NDArray[np.bool_] | None) -> None:
        """shape: height and width of the frame in positions. copied: bool of that shape; None: all are coded."""
        self.shape, self.copied = shape, copied
        self._found: dict[Hashable, npt.NDArray[np.int64]] = {}

    def of(self, index: int) -> npt.NDArray[np.int64]:
        """int64 [n]: those of pass `index`."""
        phases = PASSES[index].phases
        if phases not in self._found:
            places = positions(index, *self.shape)
            self._found[phases] = places if self.copied is None else places[~self.copied.ravel()[places]]
        return self._found[phases]


@lru_cache(maxsize=256)
def within(index: int, height: int, width: int) -> npt.NDArray[np.bool_] | slice:
    """Which of the positions that pass `index` has in whole periods lie in the picture, bool [n]; all: a slice."""
    if height % PERIOD == width % PERIOD == 0:
        return np.s_[:]
    picture = whole(np.ones((1, height, width)))[0]
    inside: npt.NDArray[np.bool_] = picture[PASSES[index].mask(*picture.shape)] > 0
    return inside


def whole(planes: npt.NDArray[Any]) -> Planes:
    """Planes [n, height, width] as a network takes them: float32, with zeros up to whole periods."""
    beyond = [(0, -side % PERIOD) for side in planes.shape[1:]]
    return np.pad(planes.astype(np.float32, copy=False), ((0, 0), *beyond))
