"""Details on request: the newest picture in the camera's full resolution, and the parts that are cut out of it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import UsageError
from edgesem.packet.detail_mark import DetailMark
from runtime.capture.frame import MIN_SIDE, Frame

Shares = tuple[float, float, float, float]
MOST_PIXELS = 1920 * 1088
"""What every receiver decodes that has not set itself another limit."""
_PIXELS_OF_BYTE = 200
"""A detailed picture shows more than blur from about a byte for so many pixels on."""


class DetailSlot:
    """Slot of the newest frame with a full picture; a newer one takes its place. Thread-safe.

    Its memory is that of one such picture: 6 MB at 1920x1080.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: Frame | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the picture; None if there is none."""
        with self._lock:
            return None if self._newest is None or self._newest.full is None else self._newest.full.shape[1::-1]

    def keep(self, frame: Frame) -> Frame:
        """Keep the full picture of a frame; returns the frame without it."""
        if frame.full is None:
            return frame
        with self._lock:
            self._newest = frame
        return replace(frame, full=None)

    def cut(self, roi: Shares, request: int, *, within: Shares = (0.0, 0.0, 1.0, 1.0)) -> Frame:
        """A part of the newest picture as a frame of its own, with at least 64 pixels a side.

        `roi` is left, top, width and height in shares of the part of the picture that the stream shows, `within`.
        Raises UsageError if there is no full picture.
        """
        with self._lock:
            newest = self._newest
        if newest is None or newest.full is None:
            raise UsageError("this sender keeps no pictures in full resolution: start it with --detail")
        shown = newest.full[_box(within, newest.full)]
        rows, columns = _box(roi, shown)
        height, width = shown.shape[:2]
        place = (
            columns.start / width,
            rows.start / height,
            (columns.stop - columns.start) / width,
            (rows.stop - rows.start) / height,
        )
        part = shown[rows, columns].copy()
        return Frame(part, newest.name, newest.time_ms, detail=DetailMark.of(place, request))


def fit_bytes(picture: NDArray[np.uint8], size_bytes: int) -> NDArray[np.uint8]:
    """A detail, uint8 [H, W, 3], shrunk if it has more pixels than so many bytes can show, or a receiver decodes."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = (min(MOST_PIXELS, _PIXELS_OF_BYTE * size_bytes) / (width * height)) ** 0.5
    if scale >= 1:
        return picture
    # Rounded down: a pixel more than a receiver decodes, and it would refuse the packet for ever.
    size = max(MIN_SIDE, int(scale * width)), max(MIN_SIDE, int(scale * height))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _box(shares: Shares, picture: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns of a part of a picture."""
    left, top, width, height = shares
    return _span(top, height, picture.shape[0]), _span(left, width, picture.shape[1])


def _span(begin: float, length: float, pixels: int) -> slice:
    """The pixels of a span in shares, grown to 64."""
    count = min(pixels, max(MIN_SIDE, round(length * pixels)))
    first = min(max(round((begin + length / 2) * pixels - count / 2), 0), pixels - count)
    return slice(first, first + count)
