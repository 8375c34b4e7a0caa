"""Coded frames: what a coder of clips gives for each frame that goes in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgesem.quality.metrics import Frame


@dataclass(frozen=True)
class Coded:
    """One frame as it was sent: its bytes, what a receiver sees, and what it took to encode."""

    size_bytes: int
    picture: Frame
    encode_s: float
    encode_cpu_s: float
    from_background: bool | None = None
    """Of a keyframe of edgesem: whether it is predicted from a background picture of the bundle."""


ClipCoder = Callable[[Sequence[Frame]], Iterator[Coded]]
"""Codes and decodes the frames of a clip in order, one each time it is asked for the next."""


class Clock:
    """Wall and processor time since its creation."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def cpu_s(self) -> float:
        """Processor time so far."""
        return time.process_time() - self._cpu_s

    def coded(self, size_bytes: int, decode: Callable[[], Frame], *, from_background: bool | None = None) -> Coded:
        """The frame that was encoded since; the time of decoding does not count."""
        wall_s, cpu_s = time.perf_counter() - self._wall_s, self.cpu_s()
        return Coded(size_bytes, decode(), wall_s, cpu_s, from_background)
