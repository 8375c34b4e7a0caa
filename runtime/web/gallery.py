"""The latest picture of each stream, as a JPEG file, for whoever looks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from runtime.receiver.sinks import encode_picture
from runtime.receiver.stream_receiver import Received


@dataclass(frozen=True)
class Shown:
    """A stream's latest picture."""

    number: int
    """Counts the pictures of the stream, so that one who looks knows whether this is another."""
    jpeg: bytes
    frame: int
    epoch: int
    width: int
    height: int
    layers: int
    size_bytes: int
    q: int
    steps: int
    decode_s: float
    delay_s: float
    promised: bool
    shown_s: float
    """When it came, by the monotonic clock."""

    @property
    def age_s(self) -> float:
        """Since its capture, as far as sender's and receiver's clocks agree."""
        return max(0.0, self.delay_s) + time.monotonic() - self.shown_s


class Gallery:
    """The latest picture of each stream. A promised one that is older than what hangs there does not replace it."""

    def __init__(self) -> None:
        self._shown: dict[str, Shown] = {}
        self._changed = threading.Condition()
        self._closed = False

    def hang(self, picture: Received) -> Shown:
        """Show a picture."""
        packet = picture.packet
        jpeg = encode_picture(picture.image, "jpg", picture.drawn)
        with self._changed:
            before = self._shown.get(picture.stream)
            shown = Shown(
                number=before.number + 1 if before else 1,
                jpeg=jpeg,
                frame=packet.frame,
                epoch=packet.epoch,
                width=packet.width,
                height=packet.height,
                layers=len(packet.chunks),
                size_bytes=packet.size_bytes,
                q=packet.q,
                steps=picture.steps,
                decode_s=picture.decode_s,
                delay_s=picture.delay_s,
                promised=packet.promised,
                shown_s=time.monotonic(),
            )
            if before is None or not packet.promised or before.age_s >= shown.age_s:
                self._shown[picture.stream] = shown
                self._changed.notify_all()
        return shown

    def take_down(self, stream: str) -> None:
        """Show nothing more of a stream."""
        with self._changed:
            self._shown.pop(stream, None)
            self._changed.notify_all()

    def latest(self, stream: str) -> Shown | None:
        """What hangs there now."""
        return self._shown.get(stream)

    def after(self, stream: str, number: int, timeout_s: float) -> Shown | None:
        """The latest picture, once there is one other than `number`; None if there is none in time or we close."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number(stream) != number, timeout_s)
            return self._shown.get(stream) if not self._closed and self._number(stream) != number else None

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def close(self) -> None:
        """Let go of all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _number(self, stream: str) -> int:
        shown = self._shown.get(stream)
        return shown.number if shown else 0
