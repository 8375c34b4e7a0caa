"""The order in which symbols are coded, and the integer model that predicts each from those before it.

A latent has 96 channels in four groups (the layers of a packet). A group is coded in passes over the positions:
the first group climbs a quincunx pyramid in five passes, so that only one position in sixteen is coded blind;
the others take two checkerboard passes, because they already know the groups before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.runner import Runner

CHANNELS = 96
GROUPS = (6, 18, 24, 48)
STRIDE = 16
MEAN_GRID = 8  # means and decoded values live on a grid of 1/8 step
VALUE_LIMIT = 2047  # |decoded value| in 1/8 steps; the integer bound of the context model rests on it
PERIOD = 4  # rows and columns after which the schedule repeats
GATE_STEPS = 64  # from "not like the reference at all" to "the reference itself"

Planes = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Fill = Callable[[int, Planes, Indices], npt.NDArray[Any]]


@dataclass(frozen=True)
class Pass:
    """One sweep: channels `[start, stop)` of group `group`, at the positions of one or two phases.

    A phase (row, column) is that position and each that lies whole strides down or to the right of it.
    """

    group: int
    start: int
    stop: int
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
        for stride, phases in _PYRAMID if group == 0 else (_EVEN, _ODD):
            passes.append(Pass(group, start, start + size, stride, phases))
        start += size
    return tuple(passes)


PASSES = _schedule()


def context_graph(index: int) -> str:
    """Name of the file that predicts pass `index`."""
    return f"context_{index:02d}.onnx"


def reference_graph(index: int) -> str:
    """Name of the file that predicts pass `index` of a packet with a reference; a bundle may lack them all."""
    return f"context_ref_{index:02d}.onnx"


class ContextModel:
    """Walks the schedule, asking before each pass the integer network of that pass what to expect.

    A network sees planes of whole periods of the schedule (`PERIOD`), zero beyond the picture: `values` float32
    [1,96,h,w] (integers in 1/8 steps, zero where unknown) and `level` float32 [1,2,h,w] (0..255, and 255 less that). It
    gives `mean` (integers in 1/8 steps) and `scale` (0..63) of the channels and positions of its pass alone, each
    [1,n,a,b] with the positions row by row. All are integers in float32, below 2^24 in every sum, so each machine
    computes the same.

    With a `reference`, float32 [1,96,height,width] in 1/8 steps, and the level that it had, a network also takes
    `reference`, `reference_level` [1,1,h,w], and `change` [1,96,h,w]: what is known of the values less the reference.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        reference: npt.NDArray[np.float32] | None = None,
        reference_level: int = 0,
    ) -> None:
        self._runners, self._reference, self._reference_level = runners, reference, reference_level

    def walk(self, levels: npt.NDArray[np.int32], layers: int, fill: Fill) -> Planes:
        """Decoded values, float32 [96, height, width], integers in 1/8 steps, coded at `levels` [height, width].

        `fill(pass_index, mean, scale)`, float32 [n] and int64 [n], gives the symbols of a pass, [n]; groups from
        `layers` on did not arrive and become their means.
        """
        height, width = levels.shape
        level = whole(np.stack([levels, 255 - levels]))
        values = np.zeros((CHANNELS, *level.shape[1:]), np.float32)
        feed = {"level": level[None], "values": values[None]}
        reference = change = values
        if self._reference is not None:
            reference, change = whole(self._reference[0]), np.zeros_like(values)
            known_level = whole(np.full((1, height, width), self._reference_level))
            feed |= {"reference": reference[None], "change": change[None], "reference_level": known_level[None]}
        for index, (sweep, runner) in enumerate(zip(PASSES, self._runners, strict=True)):
            out = runner.run(feed)
            mean = decided = out["mean"].reshape(sweep.stop - sweep.start, -1)
            inside = within(index, height, width)
            if sweep.group < layers:
                scale = out["scale"].reshape(mean.shape)[:, inside].astype(np.int64)
                symbols = fill(index, mean[:, inside].ravel(), scale.ravel()).reshape(scale.shape)
                decided = mean.copy()
                decided[:, inside] += MEAN_GRID * symbols
            decided = np.clip(decided, -VALUE_LIMIT, VALUE_LIMIT)
            if not isinstance(inside, slice):
                decided[:, ~inside] = 0
            sweep.write(values, decided)
            if self._reference is not None:
                sweep.write(change, np.clip(decided - sweep.read(reference), -VALUE_LIMIT, VALUE_LIMIT))
        return values[:, :height, :width]


@lru_cache(maxsize=256)
def positions(index: int, height: int, width: int) -> Indices:
    """int64 [n]: the positions of pass `index` in a picture, counted row by row."""
    return np.flatnonzero(PASSES[index].mask(height, width))


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
