"""Frames into packets that fit a budget, numbered; what a frame cost is remembered for the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import BudgetError, EdgesemError
from edgesem.packet import Packet
from runtime.capture import MIN_SIDE, Frame
from runtime.link_control import LinkControl
from runtime.outbox import Outbox

log = logging.getLogger(__name__)

WHOLE = (0.0, 0.0, 1.0, 1.0)


class Encoder(Protocol):
    """What a sender needs of a codec."""

    def analyze(self, frame: NDArray[np.uint8]) -> Any:
        """The latent of a picture."""

    def pack(self, latent: Any, *, budget_bytes: int, epoch: int, frame: int, time_ms: int) -> Packet:
        """The packet of a latent in at most so many bytes."""


class Packer:
    """Analyzes and packs the frames of one start of a sender; for one thread."""

    def __init__(
        self,
        *,
        codec: Encoder,
        control: LinkControl,
        outbox: Outbox,
        epoch: int,
        min_quality: float,
        tell: Callable[..., None],
    ) -> None:
        self.frame = 0
        """Number of the next frame."""
        self.roi = WHOLE
        """The part of each picture that is coded: left, top, width, height as shares."""
        self.analyze_s = self.pack_s = 0.0
        """What the latest frame took."""
        self.budget_bytes = 0
        """What the latest frame was given."""
        self._codec = codec
        self._control = control
        self._outbox = outbox
        self._epoch = epoch
        self._min_q = round(min_quality * 255)
        self._tell = tell

    def analyze(self, frame: Frame) -> Any:
        """The latent of the part of a frame that is asked for; None, and a log line, for a frame that has none."""
        started_s = time.monotonic()
        try:
            latent = self._codec.analyze(_crop(frame.image, self.roi))
        except EdgesemError as error:
            log.error("frame %s cannot be encoded: %s", frame.name, error)
            return None
        self.analyze_s = time.monotonic() - started_s
        return latent

    def pack(self, latent: Any, budget_bytes: int, frame: Frame, *, smallest: bool = False) -> Packet | None:
        """The packet whose messages, with all that MQTT adds, fit the budget.

        None if it would be worse than the quality asked for, unless `smallest`: then it is what comes nearest.
        """
        started_s = time.monotonic()
        budget_bytes = max(budget_bytes, 1)
        around_bytes = self._outbox.around_frame_bytes
        about = {"epoch": self._epoch, "frame": self.frame, "time_ms": frame.time_ms}
        try:
            packet = self._codec.pack(latent, budget_bytes=max(1, budget_bytes - around_bytes), **about)
        except BudgetError as error:
            if not smallest:
                self._control.min_bytes = max(self._control.min_bytes, error.smallest_bytes + around_bytes)
                return None
            packet = self._codec.pack(latent, budget_bytes=error.smallest_bytes, **about)
        if packet.q < self._min_q and not smallest:
            self._control.min_bytes = max(self._control.min_bytes, round(1.1 * budget_bytes))
            return None
        self.pack_s = time.monotonic() - started_s
        self.budget_bytes = budget_bytes
        self.frame += 1
        self._outbox.counters.frames += 1
        self._outbox.counters.encode_s += self.analyze_s + self.pack_s
        capacity_bps = self._control.state().get("capacity_bps")
        self._tell(
            event="packed",
            frame=packet.frame,
            name=frame.name,
            budget_bytes=budget_bytes,
            capacity_bps=None if capacity_bps is None else round(capacity_bps),
            layers_packed=len(packet.chunks),
            size_bytes=packet.size_bytes,
            q=packet.q,
            analyze_s=round(self.analyze_s, 4),
            pack_s=round(self.pack_s, 4),
        )
        return packet


def _crop(image: NDArray[np.uint8], roi: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The part of a picture, at least 64 pixels a side where it has them."""
    if roi == WHOLE:
        return image
    left, top, width, height = roi
    rows, columns = image.shape[:2]
    down, right = max(MIN_SIDE, round(height * rows)), max(MIN_SIDE, round(width * columns))
    y, x = max(0, min(round(top * rows), rows - down)), max(0, min(round(left * columns), columns - right))
    return np.ascontiguousarray(image[y : y + down, x : x + right])
