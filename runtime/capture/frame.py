"""Where frames come from: the photographs that ship with edgesem, a folder of pictures, or a video file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, require
from edgesem.files import find_pictures
from runtime.protocol.clock import clock_ms

if TYPE_CHECKING:
    from PIL import Image

PHOTOS = Path(__file__).parents[1] / "photos"
MAX_SIDE = 1024
"""Larger pictures are shrunk to this: a thin link is no place for a 12 megapixel photograph."""
MIN_SIDE = 64


@dataclass(frozen=True)
class Frame:
    """One picture as it was captured."""

    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    name: str
    time_ms: int
    """Unix milliseconds, modulo 2^32."""


def capture(source: Path, count: int) -> Iterator[Frame]:
    """At most `count` frames, evenly spread over a folder of pictures or a video file.

    InputError if there is nothing to see in `source`.
    """
    if source.is_dir():
        paths = find_pictures(source)
        for index in _spread(len(paths), count):
            yield _frame(_open(paths[index]), paths[index].stem)
    elif source.is_file():
        yield from _video(source, count)
    else:
        raise InputError(f"{source}: neither a folder of pictures nor a video file")


def _spread(total: int, count: int) -> list[int]:
    """`count` of `total` places, evenly spread; all of them if there are no more."""
    count = min(total, count)
    return [index * total // count for index in range(count)]


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


def _video(path: Path, count: int) -> Iterator[Frame]:
    av = require("av", "video")

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: no video in this file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            shown = 0
            for picture in _sampled(container, stream, count):
                yield _frame(picture.to_image(), f"{path.stem}-{shown:04d}")
                shown += 1
            if not shown:
                raise InputError(f"{path}: no picture could be decoded from this video")
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error})") from error


def _sampled(container: Any, stream: Any, count: int) -> Iterator[Any]:
    """Video frames at the middles of `count` equal parts; the first `count` where the length is not known."""
    duration_s = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    start_s = float((stream.start_time or 0) * stream.time_base)
    if duration_s <= 0:
        for picture, _ in zip(container.decode(stream), range(count), strict=False):
            yield picture
        return
    shown_s = float("-inf")
    for part in range(count):
        wanted_s = start_s + (part + 0.5) * duration_s / count
        container.seek(int(wanted_s / stream.time_base), stream=stream)  # to the keyframe before it
        for picture in container.decode(stream):
            if picture.time is not None and picture.time >= wanted_s - 1e-3:
                if picture.time > shown_s:  # a short video has fewer frames than parts
                    shown_s = picture.time
                    yield picture
                break
