"""A received picture, and the hand-over of pictures from decoder threads to their consumer."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.capture_time import capture_text, full_time_ms
from edgesem.packet.packet import Packet
from edgesem.provenance import Provenance
from runtime.protocol.topics import Topics
from runtime.receiver.stamp import clock_is_set, stamp_picture

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True)
class PictureInfo:
    """Figures of a received picture, as events and the live page have them."""

    epoch: int
    frame: int
    promised: bool
    width: int
    height: int
    layers: int
    """Layers that were received, 1 to 4."""
    size_bytes: int
    """Bytes of its packet."""
    q: int
    """Quality level, 0 to 255."""
    steps: int
    decode_s: float
    delay_s: float
    detail: tuple[float, float, float, float] | None = None
    """Which part it is of the stream's picture, if it is a detail: left, top, width and height in shares of it."""
    request: int | None = None
    """Of a detail, the lower 32 bits of the number of the command that asked for it."""


@dataclass(frozen=True, eq=False)
class ReceivedPicture:
    """One decoded frame of one stream."""

    stream: str
    """`site/device/stream`."""
    topics: Topics
    packet: Packet
    """The packet that was decoded: frame number, epoch, capture time, layers, side information."""
    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB; read-only. Empty, [0, 0, 3], where the picture was not drawn."""
    steps: int
    """Steps of the flow decoder that it was synthesized with."""
    decode_s: float
    """Time that decoding took, in seconds."""
    delay_s: float
    """Time from capture to the end of decoding, in seconds, as far as sender's and receiver's clocks agree."""
    provenance: Provenance
    """What the picture's file says of how it was made."""

    def stamped(self, kind: str) -> ReceivedPicture:
        """The same with a stamp of `kind` over its image, one of `runtime.receiver.stamp.STAMPS`."""
        packet, now_ms = self.packet, time.time_ns() // 1_000_000
        image = stamp_picture(
            self.image,
            kind,
            name=self.stream,
            captured_ms=None if capture_text(packet) is None else full_time_ms(packet, now_ms),
            steps=self.steps,
            clock_set=clock_is_set(packet, now_ms),
        )
        return self if image is self.image else replace(self, image=image)

    @property
    def drawn(self) -> bool:
        """Whether there is an image: a `StreamReceiver` with `on_demand` draws only those that somebody needs."""
        return self.image.size > 0

    @property
    def info(self) -> PictureInfo:
        """Its figures."""
        packet = self.packet
        detail = packet.side_info.detail
        return PictureInfo(
            epoch=packet.epoch,
            frame=packet.frame,
            promised=packet.promised,
            width=packet.width,
            height=packet.height,
            layers=len(packet.chunks),
            size_bytes=packet.size_bytes,
            q=packet.q,
            steps=self.steps,
            decode_s=round(self.decode_s, 4),
            delay_s=round(self.delay_s, 3),
            detail=None if detail is None else detail.roi,
            request=None if detail is None else detail.request,
        )


class PictureHandOver:
    """Slot for one picture between the decoder threads and a consumer, which is a thread or an asyncio task.

    Thread-safe. A picture goes to one consumer. A task that is cancelled while it waits takes no picture with it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._picture: ReceivedPicture | None = None
        self._closed = False
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def put(self, picture: ReceivedPicture) -> None:
        """Wait until the slot is empty and put a picture into it; after `close` the picture is dropped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._picture is None)
            if not self._closed:
                self._picture = picture
                self._wake()

    def get(self, timeout_s: float | None = None) -> ReceivedPicture | None:
        """Wait for a picture and take it; None after `close`, or if there was none in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._picture is not None, timeout_s)
            return self._take()

    async def get_async(self) -> ReceivedPicture | None:
        """As `get`, for asyncio: the event loop goes on meanwhile."""
        import asyncio  # 2 MB that a daemon needs not

        while True:
            waiter = asyncio.get_running_loop(), asyncio.Event()
            with self._changed:
                if self._closed or self._picture is not None:
                    return self._take()
                self._tasks.append(waiter)
            try:
                await waiter[1].wait()
            finally:
                with self._changed:
                    self._tasks.remove(waiter)

    def close(self) -> None:
        """Drop the picture that waits, and let all return who put or get. May be called again."""
        with self._changed:
            self._closed, self._picture = True, None
            self._wake()

    def _take(self) -> ReceivedPicture | None:
        picture, self._picture = self._picture, None
        self._changed.notify_all()
        return picture

    def _wake(self) -> None:
        self._changed.notify_all()
        for loop, event in self._tasks:
            with contextlib.suppress(RuntimeError):  # its loop was closed
                loop.call_soon_threadsafe(event.set)
