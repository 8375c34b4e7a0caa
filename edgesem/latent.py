"""What an encoder sees in a frame, or what a packet said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesem.notes import Region

LEVELS = 255  # quality as it stands in a packet

Levels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Latent:
    """A picture as its encoder describes it.

    values: float32 [96, ceil(height/16), ceil(width/16)], KLT order. level: the quality that a packet had, 0..255;
    None for a latent straight from the encoder, which has no rounding in it yet.
    """

    values: npt.NDArray[np.float32]
    width: int
    height: int
    level: int | None = None


def levels_of(height: int, width: int, level: int, region: Region | None) -> Levels:
    """int32 [height, width]: the quality of each position, coarser outside of a region."""
    levels = np.full((height, width), level, np.int32)
    if region is not None:
        levels[:] = max(0, level - region.drop)
        levels[region.top : region.bottom + 1, region.left : region.right + 1] = level
    return levels


def by_position(gain: npt.NDArray[np.float32], levels: Levels) -> npt.NDArray[np.float32]:
    """float32 [96, h, w], or [96, 1, 1] if all positions have one quality: the rows of `gain` [256, 96]."""
    if (levels == levels[0, 0]).all():
        return np.asarray(gain[levels[0, 0]][:, None, None])
    return np.asarray(gain[levels].transpose(2, 0, 1))
