"""Samples of a folder of pictures or of a video file: a few frames, evenly spread, as the demo sends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgesem.errors import InputError
from edgesem.files import find_pictures
from edgesem.video import sample_video
from runtime.capture.frame import MAX_SIDE, MIN_SIDE, Frame
from runtime.protocol.clock import clock_ms

if TYPE_CHECKING:
    from PIL import Image


def sample_frames(source: Path, count: int) -> Iterator[Frame]:
    """At most `count` frames, evenly spread over a folder of pictures or a video file; no side is over 1024 pixels.

    InputError if there is nothing to see in `source`, or a picture has a side of less than 64 pixels.
    """
    from PIL import Image

    if source.is_dir():
        paths = find_pictures(source)
        count = min(len(paths), count)
        for path in (paths[index * len(paths) // count] for index in range(count)):
            yield _frame(_open(path), path.stem)
    elif source.is_file():
        for number, frame in enumerate(sample_video(source, count)):
            yield _frame(Image.fromarray(frame.rgb()), f"{source.stem}-{number:04d}")
    else:
        raise InputError(f"{source}: neither a folder of pictures nor a video file")


def _open(path: Path) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * MAX_SIDE, 2 * MAX_SIDE))  # a large JPEG need not be decoded whole
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error})") from error


def _frame(image: Image.Image, name: str) -> Frame:
    if min(image.size) < MIN_SIDE:
        raise InputError(f"{name}: {image.width}x{image.height} is too small, {MIN_SIDE} is the least for a side")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    if min(image.size) < MIN_SIDE:
        raise InputError(f"{name}: too long and narrow; shrunk to {MAX_SIDE} it is only {min(image.size)} wide")
    return Frame(np.asarray(image), name, clock_ms())
