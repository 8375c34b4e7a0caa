"""Samples of a folder of pictures or of a video file: a few frames, evenly spread, as the demo sends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError
from edgesem.files import find_pictures, fitted_size, read_picture
from edgesem.video import sample_video
from runtime.capture.frame import MAX_SIDE, MIN_SIDE, Frame
from runtime.protocol.clock import clock_ms


def sample_frames(source: Path, count: int) -> Iterator[Frame]:
    """At most `count` frames, evenly spread over a folder of pictures or a video file; no side is over 1024 pixels.

    InputError if there is nothing to see in `source`, or a picture has a side of less than 64 pixels.
    """
    if source.is_dir():
        paths = find_pictures(source)
        count = min(len(paths), count)
        for path in (paths[index * len(paths) // count] for index in range(count)):
            yield _frame(read_picture(path, fit=(MAX_SIDE, MAX_SIDE)), path.stem)
    elif source.is_file():
        for number, frame in enumerate(sample_video(source, count)):
            size = fitted_size(frame.width, frame.height, MAX_SIDE, MAX_SIDE)
            yield _frame(frame.rgb(*size), f"{source.stem}-{number:04d}")
    else:
        raise InputError(f"{source}: neither a folder of pictures nor a video file")


def _frame(rgb: NDArray[np.uint8], name: str) -> Frame:
    height, width = rgb.shape[:2]
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{name}: {width}x{height}, as it fits {MAX_SIDE}, is too small: a side must have {MIN_SIDE}")
    return Frame(rgb, name, clock_ms())
