"""Sampler of the flow decoder: Euler steps from the base picture plus noise, tile by tile.

The network predicts the end of a straight path from noise to picture (rectified flow: Liu et al., arXiv:2209.03003).
Details that were not sent are generated; the same latent, steps and seed give the same noise, and the same picture but
for the rounding of floats (see `Codec.synthesize`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesem.entropy.schedule import STRIDE

NOISE = 0.08  # standard deviation of the noise that the base picture starts with
TILE = 1024  # pixels on a side that a network sees at once, which bounds its memory
OVERLAP = 128  # pixels that neighbouring tiles share, faded from one to the other
WINDOW = 128  # side of the flow network's attention windows, in pixels; its inputs must be multiples of that

Planes = npt.NDArray[np.float32]


def redraw(
    base: Planes, latent: Planes, run: Callable[[dict[str, Planes]], Planes], *, quality: float, steps: int, seed: int
) -> Planes:
    """The picture after `steps` Euler steps from `base` plus noise, float32 [3, H, W].

    base: float32 [3, 16h, 16w], about 0..1; latent: [96, h, w]; `run` is one step of the network (flow.onnx), from a
    feed to its `picture`. The noise of a pixel depends on the seed and its place alone.
    """
    height, width = base.shape[1:]
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal((height, width, 3), np.float32)
    noise *= NOISE
    state = base + noise.transpose(2, 0, 1)
    level = np.full((1, 1, 1, 1), quality, np.float32)
    for step in range(steps):
        time = np.full((1, 1, 1, 1), step / steps, np.float32)

        def draw(top: int, left: int, bottom: int, right: int, state: Planes = state, time: Planes = time) -> Planes:
            pixels, positions = np.s_[:, top:bottom, left:right], np.s_[:, top // STRIDE : bottom // STRIDE]
            parts = {
                "state": _padded(state[pixels], WINDOW),
                "base": _padded(base[pixels], WINDOW),
                "latent": _padded(latent[positions][:, :, left // STRIDE : right // STRIDE], WINDOW // STRIDE),
            }
            return run({**parts, "quality": level, "time": time})[:, : bottom - top, : right - left]

        ahead = by_tiles(height, width, draw) - state
        ahead /= np.float32(steps - step)
        state += ahead
    return state


def by_tiles(height: int, width: int, draw: Callable[[int, int, int, int], Planes]) -> Planes:
    """A picture float32 [3, height, width] from `draw(top, left, bottom, right)`, no piece larger than TILE a side.

    Neighbouring pieces overlap by OVERLAP pixels, where one fades into the other.
    """
    rows, columns = _spans(height), _spans(width)
    if len(rows) == len(columns) == 1:
        return draw(0, 0, height, width)
    total, weight = np.zeros((3, height, width), np.float32), np.zeros((height, width), np.float32)
    for top, bottom in rows:
        for left, right in columns:
            share = np.outer(_fade(top, bottom, height), _fade(left, right, width))
            total[:, top:bottom, left:right] += draw(top, left, bottom, right) * share
            weight[top:bottom, left:right] += share
    return total / weight


def _spans(length: int) -> list[tuple[int, int]]:
    """Pieces of at most TILE that cover `length`, each starting at a multiple of OVERLAP."""
    starts = range(0, max(length - OVERLAP, 1), TILE - OVERLAP)
    return [(start, min(start + TILE, length)) for start in starts]


def _fade(start: int, stop: int, length: int) -> Planes:
    """Weights of a piece along one side: 1, but rising from and falling to its neighbours over the overlap."""
    weight = np.ones(stop - start, np.float32)
    ramp = (np.arange(OVERLAP, dtype=np.float32) + 0.5) / OVERLAP
    if start > 0:
        weight[:OVERLAP] *= ramp
    if stop < length:
        weight[-OVERLAP:] *= ramp[::-1]
    return weight


def _padded(planes: Planes, multiple: int) -> Planes:
    """Planes [C, H, W] repeated at their edge to whole multiples, as a batch of one."""
    below, beside = (-side % multiple for side in planes.shape[1:])
    if below or beside:
        planes = np.pad(planes, ((0, 0), (0, below), (0, beside)), "edge")
    return np.ascontiguousarray(planes[None])
