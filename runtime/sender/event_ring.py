"""Event ring: the frames of the last seconds in memory, as JPEG, so that an event can have a past.

They are not coded for the link before there is an event: a frame costs milliseconds here, and a tenth of its pixels.
"""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.capture.frame import Frame

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class RingFrame:
    """One frame in memory."""

    jpeg: bytes
    name: str
    time_ms: int
    """As of `Frame`."""
    captured_s: float
    """By the monotonic clock."""

    @classmethod
    def of(cls, frame: Frame, captured_s: float) -> RingFrame:
        """A frame as it is kept: 4:4:4, so that the grey of a grey picture stays grey, and edges stay sharp."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(frame.image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return cls(buffer.getvalue(), frame.name, frame.time_ms, captured_s)

    def image(self) -> NDArray[np.uint8]:
        """The picture, uint8 [H, W, 3], RGB."""
        from PIL import Image

        return np.asarray(Image.open(io.BytesIO(self.jpeg)))


class EventRing:
    """The frames of the last `seconds`, of at most `max_bytes`; the oldest go. Not thread-safe."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds, self._max_bytes = seconds, max_bytes
        self._frames: deque[RingFrame] = deque()
        self.size_bytes = 0
        """Of all frames."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def newest_s(self) -> float:
        """When the newest frame came; less than any time if there is none."""
        return self._frames[-1].captured_s if self._frames else float("-inf")

    def add(self, frame: RingFrame) -> None:
        """Add the newest frame."""
        self._frames.append(frame)
        self.size_bytes += len(frame.jpeg)
        self._trim(frame.captured_s)

    def take(self, now_s: float) -> list[RingFrame]:
        """Take out all frames of the last `seconds`, the oldest first."""
        self._trim(now_s)
        frames = list(self._frames)
        self.clear()
        return frames

    def clear(self) -> None:
        """Forget all frames."""
        self._frames.clear()
        self.size_bytes = 0

    def _trim(self, now_s: float) -> None:
        frames = self._frames
        while frames and (frames[0].captured_s < now_s - self._seconds or self.size_bytes > self._max_bytes):
            self.size_bytes -= len(frames.popleft().jpeg)
