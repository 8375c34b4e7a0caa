"""The order in which symbols are coded, and the integer model that predicts each from those before it.

A latent has 96 channels in four groups (the layers of a packet). A group is coded in passes over the positions:
the first group climbs a quincunx pyramid in five passes, so that only one position in sixteen is coded blind;
the others take two checkerboard passes, because they already know the groups before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from edgesem.runner import Runner

CHANNELS = 96
GROUPS = (6, 18, 24, 48)
STRIDE = 16
MEAN_GRID = 8  # means and decoded values live on a grid of 1/8 step
VALUE_LIMIT = 2047  # |decoded value| in 1/8 steps; the integer bound of the context model rests on it
GATE_STEPS = 64  # from "not like the reference at all" to "the reference itself"

Values = npt.NDArray[np.int32]
Fill = Callable[[int, Values, Values], Values]


@dataclass(frozen=True)
class Pass:
    """One sweep: channels `[start, stop)` of group `group` at the positions that `at(i, j)` selects."""

    group: int
    start: int
    stop: int
    at: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.bool_]]

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """bool [height, width]: the positions of this pass."""
        i, j = np.mgrid[:height, :width]
        return self.at(i, j)


_PYRAMID = (
    lambda i, j: (i % 4 == 0) & (j % 4 == 0),
    lambda i, j: (i % 4 == 2) & (j % 4 == 2),
    lambda i, j: (i % 2 == 0) & (j % 2 == 0) & ((i + j) % 4 == 2),
    lambda i, j: (i % 2 == 1) & (j % 2 == 1),
    lambda i, j: (i + j) % 2 == 1,
)
_CHECKERBOARD = (lambda i, j: (i + j) % 2 == 0, lambda i, j: (i + j) % 2 == 1)


def _schedule() -> tuple[Pass, ...]:
    passes, start = [], 0
    for group, size in enumerate(GROUPS):
        for at in _PYRAMID if group == 0 else _CHECKERBOARD:
            passes.append(Pass(group, start, start + size, at))
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

    A network takes `values` float32 [1,96,h,w] (integers in 1/8 steps, zero where unknown) and `level` float32
    [1,1,h,w] (0..255), and gives `mean` (integers in 1/8 steps) and `scale` (0..63), each [1,n,h,w], for the channels
    of its pass. All are integers in float32, below 2^24 in every sum, so each machine computes the same.

    With a `reference`, float32 [1,96,h,w] in 1/8 steps, and the level that it had, a network also takes `reference`,
    `reference_level` [1,1,h,w], and `change` [1,96,h,w]: what is known of the values less the reference, else zero.
    """

    def __init__(
        self,
        runners: Sequence[Runner],
        reference: npt.NDArray[np.float32] | None = None,
        reference_level: int = 0,
    ) -> None:
        self._runners, self._reference, self._reference_level = runners, reference, reference_level

    def walk(self, levels: Values, layers: int, fill: Fill) -> Values:
        """Decoded values, int32 [96, height, width] in 1/8 steps, of positions coded at `levels` [height, width].

        `fill(pass_index, mean, scale)`, each int32 [n], gives the symbols of a pass, int32 [n]; groups from `layers` on
        did not arrive and become their means.
        """
        height, width = levels.shape
        values = np.zeros((1, CHANNELS, height, width), np.float32)
        plane = levels[None, None].astype(np.float32)
        feed = {"values": values, "level": plane}
        if self._reference is not None:
            feed["reference"], feed["change"] = self._reference, np.zeros_like(values)
            feed["reference_level"] = np.full_like(plane, self._reference_level)
        for index, (sweep, runner) in enumerate(zip(PASSES, self._runners, strict=True)):
            out = runner.run(feed)
            here = positions(index, height, width)
            mean = _flat(out["mean"])[:, here].astype(np.int32)
            if sweep.group < layers:
                scale = _flat(out["scale"])[:, here].astype(np.int32)
                symbols = fill(index, mean.ravel(), scale.ravel())
                mean = mean + MEAN_GRID * symbols.reshape(mean.shape)
            part = np.s_[sweep.start : sweep.stop, here]
            _flat(values)[part] = decided = np.clip(mean, -VALUE_LIMIT, VALUE_LIMIT)
            if self._reference is not None:
                change = decided - _flat(self._reference)[part]
                _flat(feed["change"])[part] = np.clip(change, -VALUE_LIMIT, VALUE_LIMIT)
        decoded: Values = values[0].astype(np.int32)
        return decoded


@lru_cache(maxsize=256)
def positions(index: int, height: int, width: int) -> npt.NDArray[np.int64]:
    """int64 [n]: the positions of pass `index`, counted row by row."""
    return np.flatnonzero(PASSES[index].mask(height, width))


def _flat(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[1, n, h, w] as [n, h * w], the same memory."""
    return planes.reshape(planes.shape[1], -1)
