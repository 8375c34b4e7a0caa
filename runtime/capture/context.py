"""Context of a capture: what every kind of source is given, and how it makes frames of its pictures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, UsageError
from edgesem.files import fitted_size
from runtime.capture.frame import MAX_SIDE, MIN_SIDE, Frame
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.clock import clock_ms
from runtime.settings import SourceSettings

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""


@dataclass
class LeftOut:
    """Counter of a source's items that could not be read: pictures of a folder, frames of a video or camera."""

    count: int = 0

    def note(self, limited_log: RateLimitedLog, message: str, *details: object) -> None:
        """Count an item, with a warning now and then."""
        self.count += 1
        limited_log.warn(message, *details)


@dataclass(frozen=True)
class CaptureContext:
    """The source's settings, the frame rate that is asked for, the event that ends it, and what was left out."""

    settings: SourceSettings
    fps: float
    stop: threading.Event
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def uri(self) -> str:
        """What names the source."""
        return self.settings.uri

    @property
    def camera_size(self) -> tuple[int, int]:
        """Width and height to ask of a camera: a width that is a multiple of 4 has no padding between its rows."""
        width, height = self.settings.detail_size or (self.settings.width or 640, self.settings.height or 480)
        return max(MIN_SIDE, width // 4 * 4), max(MIN_SIDE, height // 2 * 2)

    @property
    def camera_number(self) -> int:
        """The number after the colon of a URI such as `csi:1`; 0 without one, UsageError if it is none."""
        kind, _, number = self.uri.partition(":")
        number = number or "0"
        if not number.isdecimal() or len(number) > 3:
            raise UsageError(f"{self.uri}: after the colon stands the camera's number, such as {kind}:0")
        return int(number)

    @property
    def live_period_s(self) -> float:
        """How often a live picture is of use: turning one into RGB costs, and the sender takes the newest."""
        return min(0.1, 0.5 / self.fps)

    @property
    def most(self) -> tuple[int, int]:
        """Width and height that a picture is shrunk to fit in."""
        return self.settings.width or MAX_SIDE, self.settings.height or MAX_SIDE

    @property
    def most_kept(self) -> tuple[int, int]:
        """As `most`, of the larger picture that is kept for details, if one is."""
        return self.settings.detail_size or self.most

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """The size of a picture shrunk to what is asked for; never enlarged."""
        return fitted_size(width, height, *self.most)

    def frame(self, rgb: Picture, name: str, full: Picture | None = None) -> Frame:
        """A picture of the right size as a frame captured now, turned as asked; InputError if it is too small.

        `full` is the same picture in full resolution.
        """
        turned = self._turned(rgb)
        if min(turned.shape[:2]) < MIN_SIDE:
            raise InputError(
                f"{name}: {turned.shape[1]}x{turned.shape[0]} is too small, {MIN_SIDE} a side is the least"
            )
        return Frame(turned, name, clock_ms(), full=None if full is None else self._turned(full))

    def shrunk_frame(self, rgb: Picture, name: str) -> Frame:
        """A picture of any size as a frame, shrunk to fit; with the larger one, if that is kept."""
        return self.scaled_frame(lambda width, height: _resized(rgb, width, height), rgb.shape[1], rgb.shape[0], name)

    def scaled_frame(self, rgb: Callable[[int, int], Picture], width: int, height: int, name: str) -> Frame:
        """A picture of this size, which `rgb(width, height)` gives in any, as a frame; with a larger one, if kept."""
        kept = self.settings.detail_size
        full = None if kept is None else rgb(*fitted_size(width, height, *kept))
        return self.frame(rgb(*self.fit(width, height)), name, full)

    def _turned(self, rgb: Picture) -> Picture:
        return np.ascontiguousarray(np.rot90(rgb, -self.settings.rotate // 90))

    def paced(
        self, pictures: Iterable[tuple[Picture, str]], period_s: float, limited_log: RateLimitedLog | None = None
    ) -> Iterator[Frame]:
        """Frames of named pictures, one each `period_s`, or at once if that is 0; until the stop.

        A picture that is too small costs a line in `limited_log`.
        """
        limited_log = limited_log or RateLimitedLog(log)
        for rgb, name in pictures:
            began_s = time.monotonic()
            try:
                frame = self.shrunk_frame(rgb, name)
            except InputError as error:
                self.left_out.note(limited_log, "left out: %s", error)
                continue
            yield frame
            if self.stop.wait(max(0.0, began_s + period_s - time.monotonic()) if period_s else 0):
                return


def _resized(rgb: Picture, width: int, height: int) -> Picture:
    from PIL import Image

    if (height, width) == rgb.shape[:2]:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))
