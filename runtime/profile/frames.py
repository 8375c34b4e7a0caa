"""Frame sources of a profile: pictures of a folder over and over, or a camera, all brought to one size."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import EnvironmentMissing, UsageError
from edgesem.files import find_pictures, read_picture
from runtime.capture.frame import PHOTOS

Frame = NDArray[np.uint8]

_CAMERAS = ("camera", "/dev/", "picamera", "csi", "gst:", "rtsp://", "rtsps://", "http://", "https://")
_CAMERA_FPS = 30.0
_MAX_SIDE = 4096
_MIN_SIDE = 64


def parse_size(size: str) -> tuple[int, int]:
    """`640x480` as (640, 480). Raises UsageError."""
    width, cross, height = size.partition("x")
    if cross and width.isdigit() and height.isdigit():
        sides = int(width), int(height)
        if min(sides) >= _MIN_SIDE and max(sides) <= _MAX_SIDE:
            return sides
    raise UsageError(f"--size {size}: write it as 640x480, each side {_MIN_SIDE} to {_MAX_SIDE}")


def open_frames(source: str | None, size: tuple[int, int]) -> Iterator[Frame]:
    """Frames without end, uint8 [H, W, 3], from a folder or a camera; None: the photographs that ship.

    Raises UsageError for a source that is neither.
    """
    if source is not None and source.startswith(_CAMERAS):
        return _camera("/dev/video0" if source == "camera" else source, size)
    folder = Path(source) if source else PHOTOS
    if not folder.is_dir():
        raise UsageError(f"--source {source}: name a folder of pictures, or a camera: /dev/videoN, picamera, csi")
    return pictures(folder, size)


def pictures(source: Path, size: tuple[int, int]) -> Iterator[Frame]:
    """The pictures of a folder again and again, read from disk each time and brought to one size (uint8 [H, W, 3])."""
    from PIL import Image

    for path in itertools.cycle(find_pictures(source)):
        yield np.asarray(Image.fromarray(read_picture(path)).resize(size, Image.Resampling.BILINEAR))


def _camera(uri: str, size: tuple[int, int]) -> Iterator[Frame]:
    """Frames of a camera as the sender opens it, brought to one size; each waits until the camera has a new one."""
    from PIL import Image

    from runtime.capture.source import Source
    from runtime.settings import SourceSettings

    settings = SourceSettings(uri=uri, width=size[0], height=size[1])
    for frame in Source(settings, fps=_CAMERA_FPS, stop=threading.Event()):
        picture = Image.fromarray(frame.image)
        yield np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR))
    raise EnvironmentMissing(f"{uri}: the camera gave no more frames")
