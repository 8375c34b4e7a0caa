"""Grey pictures: whether a picture has no colour, as those of infra-red cameras, and its shades of grey alone.

A picture without colour needs fewer bytes, because the codec then spends none on colour noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesem.picture import as_grey

_BLOCK = 4
_COLOURLESS, _COLOURED = 6.0, 9.0  # levels of 255: the strongest colour of a block, to become grey and to remain so

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""


class GreyFilter:
    """Filter of one camera's pictures: `auto` makes grey what has no colour, `on` everything, `off` nothing.

    A picture has no colour if none of its blocks of 4x4 pixels has: noise averages out there, a red lamp does not. From
    grey to colour and back it goes with hysteresis. For one thread at a time.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self.grey = mode == "on"
        """Whether the last picture was grey."""

    def apply(self, picture: Picture) -> Picture:
        """The picture, or a grey one of the same shape."""
        if self._mode == "auto":
            self.grey = strongest_colour(picture) <= (_COLOURED if self.grey else _COLOURLESS)
        return as_grey(picture) if self.grey else picture


def strongest_colour(picture: Picture) -> float:
    """How far the channels of a picture's most colourful block lie apart, in levels of 255."""
    height, width = (side // _BLOCK * _BLOCK for side in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    means = blocks.mean((1, 3), dtype=np.float32)
    return float((means.max(-1) - means.min(-1)).max())
