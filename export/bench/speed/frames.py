"""Pictures of a folder, all of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgesem.files import read_picture
from edgesem.quality.metrics import Frame


def read_frames(paths: Sequence[Path], count: int, width: int, height: int) -> list[Frame]:
    """`count` pictures, evenly from all, uint8 [height, width, 3]: on end turned, then cut and scaled to the size."""
    count = min(count, len(paths))
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    return [_sized(read_picture(path), width, height) for path in chosen]


def _sized(picture: Frame, width: int, height: int) -> Frame:
    if (picture.shape[0] > picture.shape[1]) != (height > width):
        picture = np.ascontiguousarray(np.rot90(picture))
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))
