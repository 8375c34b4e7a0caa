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

from edgesem.latent import LEVELS
from edgesem.runner import Runner

CHANNELS = 96
GROUPS = (6, 18, 24, 48)
STRIDE = 16
MEAN_GRID = 8  # means and decoded values live on a grid of 1/8 step
VALUE_LIMIT = 2047  # |decoded value| in 1/8 steps; the integer bound of the context model rests on it
COARSE_LIMIT = 511  # |value| in 1/4 steps, the same for most passes
PERIOD = 4  # rows and columns after which the schedule repeats
GATE_STEPS = 64  # from "not like the reference at all" to "the reference itself"

Planes = npt.NDArray[np.float32]
Fill = Callable[[int, Planes, Planes], Planes]


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
    """Name of the file that predicts pass `index` of a packet with a reference; a bundle may lack them all."""
    return f"context_ref_{index:02d}.onnx"


class ContextModel:
    """Walks the schedule, asking before each pass the integer network of that pass what to expect.

    A network sees planes of whole periods of the schedule (`PERIOD`), zero beyond the picture and where nothing is
    known yet, float32 [1,n,h,w] each:

        values     the level (0..255), 255 less that, and the pass's `seen` channels in 1/8 steps: passes of group 0
        coarse     the same with values as `coarse` makes them: all other passes
        own, reference_level    with a reference: what it has of the pass's channels, and the level that it had
        change     what is known of the values less the reference: passes of group 0, but the first
        moved      the size of that, made coarse, of all groups before: all other passes

    It gives `mean` (integers in 1/8 steps) and `scale` (0..63) of the channels and positions of its pass alone, each
    [1,n,a,b] with the positions row by row. All are integers in float32, below 2^24 in every sum, so each machine
    computes the same.
    """

    def __init__(self, runners: Sequence[Runner], reference: Planes | None = None, reference_level: int = 0) -> None:
        """`reference`: float32 [96, height, width], in 1/8 steps of the present quality."""
        self._runners, self._reference, self._reference_level = runners, reference, reference_level

    def walk(self, levels: npt.NDArray[np.int32], layers: int, fill: Fill) -> Planes:
        """Decoded values, float32 [96, height, width], integers in 1/8 steps, coded at `levels` [height, width].

        `fill(pass_index, mean, scale)`, float32 [n] each, gives the values of a pass, whole steps from its means;
        groups from `layers` on did not arrive and become their means.
        """
        height, width = levels.shape
        known = _Known(levels, self._reference, self._reference_level)
        for index, (sweep, runner) in enumerate(zip(PASSES, self._runners, strict=True)):
            out = runner.run(known.feed(sweep))
            decided = out["mean"].reshape(sweep.stop - sweep.start, -1)
            inside = within(index, height, width)
            if sweep.group < layers:
                mean, scale = decided[:, inside], out["scale"].reshape(decided.shape)[:, inside]
                decided = _put(fill(index, mean.ravel(), scale.ravel()).reshape(mean.shape), decided, inside)
            decided = np.clip(decided, -VALUE_LIMIT, VALUE_LIMIT)
            if not isinstance(inside, slice):
                decided[:, ~inside] = 0
            known.add(sweep, decided)
        return known.values[:, :height, :width]


class _Known:
    """What both ends know at a moment of a walk, as the networks take it."""

    def __init__(self, levels: npt.NDArray[np.int32], reference: Planes | None, reference_level: int) -> None:
        level = whole(np.stack([levels, LEVELS - levels]))
        nothing = np.zeros((CHANNELS, *level.shape[1:]), np.float32)
        self._fine, self._coarse = np.concatenate([level, nothing]), np.concatenate([level, nothing])
        self._reference = None if reference is None else whole(reference)
        self._reference_level = whole(np.full((1, *levels.shape), reference_level))
        self._change, self._moved = nothing[: GROUPS[0]].copy(), nothing

    @property
    def values(self) -> Planes:
        """float32 [96, h, w]."""
        return self._fine[2:]

    def feed(self, sweep: Pass) -> dict[str, Planes]:
        """The inputs of a pass's network."""
        fine = sweep.group == 0
        feed = {"values" if fine else "coarse": (self._fine if fine else self._coarse)[None, : 2 + sweep.seen]}
        if self._reference is not None:
            feed |= {"own": self._reference[None, sweep.start : sweep.stop]}
            feed |= {"reference_level": self._reference_level[None]}
            if not fine:
                feed["moved"] = self._moved[None, : sweep.start]
            elif sweep.seen:
                feed["change"] = self._change[None]
        return feed

    def add(self, sweep: Pass, decided: Planes) -> None:
        """Know the values of a pass, [n, positions]."""
        sweep.write(self._fine[2:], decided)
        sweep.write(self._coarse[2:], coarse(decided))
        if self._reference is not None:
            change = np.clip(decided - sweep.read(self._reference), -VALUE_LIMIT, VALUE_LIMIT)
            if sweep.group == 0:
                sweep.write(self._change, change)
            sweep.write(self._moved, coarse(np.abs(change)))


def coarse(values: Planes) -> Planes:
    """Values in 1/8 steps as passes after those of group 0 see them: in 1/4 steps, and not beyond COARSE_LIMIT."""
    small: Planes = np.clip(np.floor(values * np.float32(0.5)), -COARSE_LIMIT, COARSE_LIMIT)
    return small


@lru_cache(maxsize=256)
def positions(index: int, height: int, width: int) -> npt.NDArray[np.int64]:
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


def _put(part: Planes, planes: Planes, inside: npt.NDArray[np.bool_] | slice) -> Planes:
    """`planes` [n, positions] with `part` where they lie in the picture."""
    if isinstance(inside, slice):
        return part
    planes = planes.copy()
    planes[:, inside] = part
    return planes


def whole(planes: npt.NDArray[Any]) -> Planes:
    """Planes [n, height, width] as a network takes them: float32, with zeros up to whole periods."""
    beyond = [(0, -side % PERIOD) for side in planes.shape[1:]]
    return np.pad(planes.astype(np.float32, copy=False), ((0, 0), *beyond))
