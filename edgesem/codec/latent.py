"""Latent: what the encoder network makes of a frame, or what a packet decodes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgesem.entropy.schedule import PASSES, Planes, whole, within
from edgesem.packet.side_information import MAX_LEVEL, Region

LEVELS = MAX_LEVEL

Levels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Latent:
    """A picture as the encoder network describes it.

    values: float32 [96, ceil(height/16), ceil(width/16)], in the order of the Karhunen-Loeve transform (the channels
    with most energy first) and in the encoder's units. width, height: of the picture, in pixels. level: the quality of
    the packet that it was decoded from, 0..255; None for a latent straight from the encoder, which is not rounded.
    """

    values: npt.NDArray[np.float32]
    width: int
    height: int
    level: int | None = None
    region: Region | None = None
    """Where `level` holds; the rest was coded coarser. None: everywhere."""

    @cached_property
    def by_pass(self) -> list[Planes]:
        """The values in the order in which they are coded: of each pass of the schedule, float32 [n, positions]."""
        planes, (height, width) = whole(self.values), self.values.shape[1:]
        return [sweep.read(planes)[:, within(index, height, width)] for index, sweep in enumerate(PASSES)]

    @property
    def outer_level(self) -> int | None:
        """The quality outside of the region, None where there is none."""
        return None if self.region is None or self.level is None else max(0, self.level - self.region.drop)


def levels_of(height: int, width: int, level: int, region: Region | None) -> Levels:
    """int32 [height, width]: the quality of each position, coarser outside of a region."""
    levels = np.full((height, width), level, np.int32)
    if region is not None:
        levels[:] = max(0, level - region.drop)
        levels[region.top : region.bottom + 1, region.left : region.right + 1] = level
    return levels


def share_inside(latent: Latent, stride: int) -> npt.NDArray[np.float32]:
    """float32 [stride * h, stride * w]: 1 inside the region, 0 outside, fading from one position to the next."""
    height, width = latent.values.shape[1:]
    inside = (levels_of(height, width, 1, latent.region and replace(latent.region, drop=1)) > 0).astype(np.float32)
    size = (width * stride, height * stride)
    return np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.BILINEAR), np.float32)


def by_position(gain: npt.NDArray[np.float32], levels: Levels) -> npt.NDArray[np.float32]:
    """float32 [96, h, w], or [96, 1, 1] if all positions have one quality: the rows of `gain` [256, 96]."""
    if (levels == levels[0, 0]).all():
        return np.asarray(gain[levels[0, 0]][:, None, None])
    return np.asarray(gain[levels].transpose(2, 0, 1))
