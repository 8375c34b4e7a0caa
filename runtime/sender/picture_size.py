"""Picture size: how large a picture is coded, where the link bears too few bytes for all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.capture.frame import MIN_SIDE

SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)
"""What a picture's sides may be shrunk to."""
_LOW_Q, _HIGH_Q = 45, 150  # quality levels, of 255; one step of size is worth about 45
_NEWEST = 0.3  # weight of the newest frame in the average
_FEW = 3  # frames of a size before it may change again


class PictureSize:
    """Choice of a share of the picture's sides, by the quality that its packets reach; with hysteresis.

    Below a quality level of 45 to 75, a picture with fewer rows and columns looks better at the same number of bytes,
    and fits where the whole one would not. Of detailed pictures at 640x480 that is at 1 to 1.7 KB; plain ones, and
    still scenes that are coded as inter frames, need less. Not below 64 pixels a side. For one thread.
    """

    def __init__(self) -> None:
        self.share = 1.0
        """Of the next picture's sides."""
        self._q: float | None = None
        self._frames = 0

    def coded(self, q: int, width: int, height: int) -> bool:
        """A picture that was captured with this size was coded at a quality level; whether the share changes."""
        self._q = q if self._q is None else self._q + _NEWEST * (q - self._q)
        self._frames += 1
        return self._frames >= _FEW and self._choose(self._q, width, height)

    def did_not_fit(self, width: int, height: int) -> bool:
        """Not even the coarsest quality did fit; whether the share changes."""
        return self._choose(0.0, width, height)

    def _choose(self, q: float, width: int, height: int) -> bool:
        place = SHARES.index(self.share) + (q < _LOW_Q) - (q > _HIGH_Q)
        share = SHARES[min(max(place, 0), len(SHARES) - 1)]
        if share == self.share or (share < self.share and share * min(width, height) < MIN_SIDE):
            return False
        self.share, self._q, self._frames = share, None, 0
        return True


def shrink(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """A picture, uint8 [H, W, 3], with its sides shrunk to a share, but not below 64 pixels."""
    from PIL import Image

    height, width = (min(side, max(MIN_SIDE, round(share * side))) for side in picture.shape[:2])
    if (height, width) == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
