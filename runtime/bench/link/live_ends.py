"""Ends of a link that code as a run goes, in simulated time: edgesem's sender and receiver, and those of AV1."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.codec.reference import ReferenceBuffer
from edgesem.low_delay_video import LowDelayDecoder
from edgesem.packet.packet import Packet
from runtime.bench.link.av1_sender import LIBRARY, Av1Options, Av1Sender, Fragment, follower_of
from runtime.bench.link.clip import Image
from runtime.bench.link.endpoints import TOPICS
from runtime.bench.link.model import BROKER_S, TcpModel
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.frame_queue import FrameQueue
from runtime.receiver.sender_start import SenderStart
from runtime.receiver.streams import PATIENCE_S
from runtime.sender.message_format import MessageFormat
from runtime.sender.pipeline import SenderPipeline


@dataclass
class LinkPath:
    """The way from a sender to a receiver and back: a link, TCP on it, a broker at its end."""

    tcp: TcpModel
    delay_s: float
    now_s: float = 0.0
    sent_bytes: int = 0
    """Of all messages, with what MQTT adds."""

    def send(self, size_bytes: int, arrived: Callable[[], None], confirm: Callable[[], None]) -> None:
        """Put a message on the link; the broker's confirmation comes back after it has arrived."""

        def come(now_s: float) -> None:
            self.answer(confirm)
            arrived()

        self.sent_bytes += size_bytes
        self.tcp.send(size_bytes, self.now_s, come)

    def answer(self, call: Callable[[], None]) -> None:
        """Something small goes back from the receiver."""
        self.tcp.call_at(self.now_s + self.delay_s + BROKER_S, call)


class Ends(Protocol):
    """A sender and a receiver."""

    picture: Image | None
    """What the viewer sees."""
    arrivals: list[tuple[float, float]]
    """When each picture was shown, and when it was captured."""
    encode_s: list[float]
    """Processor time of each frame that was encoded."""

    @property
    def keyframes(self) -> int:
        """How many keyframes were sent."""

    def offer(self, tick: int, image: Image) -> None:
        """The camera has a new frame."""

    def step(self) -> None:
        """All that is to be done at the path's time."""

    def close(self) -> None:
        """The run is over."""


class SemanticEnds:
    """edgesem's sender pipeline and, of its receiver, reassembly, queue, references and decoder."""

    def __init__(self, codec: Codec, path: LinkPath, control: Control) -> None:
        self.picture: Image | None = None
        self.arrivals: list[tuple[float, float]] = []
        self.encode_s: list[float] = []
        self.keyframes = 0
        self._codec, self._path = codec, path
        self._captured_s: dict[int, float] = {}
        self._start, self._queue = SenderStart(), FrameQueue(ReceiverCounters())
        self._references = ReferenceBuffer()
        self._last_s = 0.0
        self._sender = SenderPipeline(
            codec=codec,
            topics=TOPICS,
            control=control,
            publish=self._publish,
            on_event=self._note,
            clock=lambda: self._path.now_s,
        )
        self._ticks: dict[int, int] = {}
        self._size: tuple[int, int] = (0, 0)
        self._sender.connected(2 * path.delay_s + BROKER_S)

    def offer(self, tick: int, image: Image) -> None:
        """As of Ends."""
        self._size = image.shape[1], image.shape[0]
        self._captured_s[tick] = self._path.now_s
        self._sender.offer(Frame(image, str(tick), round(1000 * self._path.now_s)))

    def step(self) -> None:
        """As of Ends."""
        before_s, frames = time.process_time(), len(self._ticks)
        while self._sender.encode_step():
            pass
        if len(self._ticks) > frames:
            self.encode_s.append(time.process_time() - before_s)
        while self._sender.publish_step():
            pass
        if self._path.now_s >= self._last_s + PATIENCE_S and self._start.reassembly.due_s(PATIENCE_S) is not None:
            self._queue.add(self._start, self._start.reassembly.early())
        while (packet := self._queue.pop()) is not None:
            self._decode(packet)

    def close(self) -> None:
        """As of Ends."""

    def _note(self, event: Any) -> None:
        if event.event == "packed":
            self._ticks[event.frame] = int(event.name)
            self.keyframes += event.refers_to is None

    def _publish(self, topic: str, payload: bytes, confirm: Callable[[], None]) -> None:
        size_bytes = self._sender.publisher.format.around_bytes + len(payload)
        self._path.send(size_bytes, lambda: self._take(Packet.from_bytes(payload)), confirm)

    def _take(self, packet: Packet) -> None:
        """A message has arrived: acknowledge it, and queue what it completes."""
        self._last_s = self._path.now_s
        self._acknowledge(packet, packet.first_layer, held=0)
        self._queue.add(self._start, self._start.reassembly.add(packet))

    def _decode(self, packet: Packet) -> None:
        named, layers = packet.side_info.reference, len(packet.chunks)
        known: Latent | None = None
        if named is not None:
            known = self._references.get(packet.epoch, named.frame, named.layers)
            if known is None:
                command = Command("key").to_bytes()
                self._path.answer(lambda: self._sender.on_message(TOPICS.cmd, command))
                return
        latent = self._codec.unpack(packet, known)
        self._references.put(packet.epoch, packet.frame, layers, latent)
        self._acknowledge(packet, layers - 1, held=layers)
        self.picture = _enlarged(self._codec.synthesize(latent), self._size)
        self.arrivals.append((self._path.now_s, self._captured_s[self._ticks[packet.frame]]))

    def _acknowledge(self, packet: Packet, layer: int, *, held: int) -> None:
        now_ms = round(1000 * self._path.now_s)
        ack = Ack(packet.epoch, packet.frame, layer, now_ms, 0, receiver=1, held=held).to_bytes()
        self._path.answer(lambda: self._sender.on_message(TOPICS.ack, ack))


class VideoEnds:
    """A sender of AV1, and a receiver that shows each frame when its last fragment is there."""

    def __init__(self, options: Av1Options, path: LinkPath, control: Control, rate_hz: float) -> None:
        self.picture: Image | None = None
        self.arrivals: list[tuple[float, float]] = []
        self.encode_s: list[float] = []
        self._path, self._captured_s = path, dict[int, float]()
        self._follower = follower_of(options, rate_hz)
        around_bytes = MessageFormat(TOPICS, None).around_bytes
        self._sender = Av1Sender(self._follower, control, around_bytes=around_bytes, publish=self._publish)
        control.connected(0.0, 2 * path.delay_s + BROKER_S)
        self._decoder = LowDelayDecoder(LIBRARY)
        self._parts: list[bytes] = []
        self._height = self._width = 0

    @property
    def keyframes(self) -> int:
        """As of Ends."""
        return self._follower.keyframes

    def offer(self, tick: int, image: Image) -> None:
        """As of Ends."""
        self._height, self._width = image.shape[:2]
        self._captured_s[tick] = self._path.now_s
        self._sender.offer(tick, image)

    def step(self) -> None:
        """As of Ends."""
        before_s = time.process_time()
        if self._sender.step(self._path.now_s):
            self.encode_s.append(time.process_time() - before_s)

    def close(self) -> None:
        """As of Ends."""
        self._follower.close()

    def _publish(self, fragment: Fragment, size_bytes: int, confirm: Callable[[float], None]) -> None:
        self._path.send(size_bytes, lambda: self._take(fragment), lambda: confirm(self._path.now_s))

    def _take(self, fragment: Fragment) -> None:
        """A fragment has arrived; TCP and the broker keep their order, and lose none."""
        self._parts.append(fragment.data)
        if fragment.number < fragment.count - 1:
            return
        data, self._parts = b"".join(self._parts), []
        if fragment.is_key:
            self._decoder = LowDelayDecoder(LIBRARY)
        self.picture = self._decoder.decode(data, self._height, self._width)
        self.arrivals.append((self._path.now_s, self._captured_s[fragment.tick]))


def _enlarged(picture: Image, size: tuple[int, int]) -> Image:
    """A picture that was sent with fewer pixels, as large as the camera's."""
    from PIL import Image as Pillow

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.BICUBIC))
