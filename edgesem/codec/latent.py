"""Latent: what the encoder network makes of a frame, or what a packet decodes to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgesem.entropy.schedule import STRIDE
from edgesem.packet.side_information import MAX_LEVEL, Region

LEVELS = MAX_LEVEL
ANCHORS = (0, 32, 64, 96, 128, 192, LEVELS)
"""Qualities that pictures of several are drawn at: between them a mix looks the same within 0.1 grey levels."""
FINE = 192
"""In pictures of several qualities, those from here on are drawn as the finest: on three pictures of Kodak that changed
pixels by 0.3 to 0.8 grey levels (root of the mean square) and PSNR by 0.02 dB at most, and a drawing takes its time."""

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
    copied_levels: npt.NDArray[np.uint8] | None = None
    """uint8 [h, w]: the quality of each position of a frame with copies, which keep that of their own frame. None: as
    `level` and `region` say."""
    origin: npt.NDArray[np.float32] | None = None
    """The encoder's values that each position was coded from, where they are known: to its sender, if all layers are
    there."""

    @property
    def levels(self) -> Levels:
        """int32 [h, w]: the quality of each position; the finest for a latent straight from the encoder."""
        if self.copied_levels is not None:
            return self.copied_levels.astype(np.int32)
        height, width = self.values.shape[1:]
        return levels_of(height, width, LEVELS if self.level is None else self.level, self.region)

    @property
    def reference_levels(self) -> Levels:
        """int32 [h, w]: the same as the context model takes it: a frame without copies has `level` everywhere."""
        if self.copied_levels is not None:
            return self.copied_levels.astype(np.int32)
        return np.full(self.values.shape[1:], self.level or 0, np.int32)


def levels_of(height: int, width: int, level: int, region: Region | None) -> Levels:
    """int32 [height, width]: the quality of each position, coarser outside of a region."""
    levels = np.full((height, width), level, np.int32)
    if region is not None:
        levels[:] = max(0, level - region.drop)
        levels[region.top : region.bottom + 1, region.left : region.right + 1] = level
    return levels


def drawings(levels: Levels) -> list[tuple[int, npt.NDArray[np.float32] | None]]:
    """At which qualities a picture is drawn, the lowest first, and the share of each in place of those before it.

    Shares are float32 [16h, 16w], 0..1, fading from one position to the next; None is all of it. A decoder draws with
    one quality. Where there are several, those from FINE on count as the finest. Of two in a picture both are then
    drawn; of more, those of ANCHORS around them, so that an area that stays as it is also looks as it did, whatever
    surrounds it.
    """
    level = int(levels[0, 0])
    if (levels == level).all():  # mostly; what NumPy loads for the rest is 1 MB in each decoder
        return [(level, None)]
    levels = np.where(levels < FINE, levels, LEVELS)
    drawn = np.unique(levels)
    if drawn.size > 2:
        above = np.searchsorted(ANCHORS, drawn)
        below = np.where(np.take(ANCHORS, above) == drawn, above, above - 1)
        drawn = np.take(ANCHORS, np.unique([below, above]))
    shares: list[npt.NDArray[np.float32] | None] = [None]
    for low, high in pairwise(drawn.tolist()):
        share = ((levels - low) / np.float32(high - low)).clip(0, 1).astype(np.float32)
        size = (levels.shape[1] * STRIDE, levels.shape[0] * STRIDE)
        from PIL import Image  # rarely needed, and 2 MB in each decoder

        shares.append(np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR), np.float32))
    return list(zip(drawn.tolist(), shares, strict=True))


def by_position(gain: npt.NDArray[np.float32], levels: Levels) -> npt.NDArray[np.float32]:
    """float32 [96, h, w], or [96, 1, 1] if all positions have one quality: the rows of `gain` [256, 96]."""
    if (levels == levels[0, 0]).all():
        return np.asarray(gain[levels[0, 0]][:, None, None])
    return np.ascontiguousarray(gain[levels].transpose(2, 0, 1))
