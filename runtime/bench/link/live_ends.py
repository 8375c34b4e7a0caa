"""Ends of a link that code as a run goes, in simulated time: edgesem's sender and receivers, and those of AV1."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgesem.codec.codec import Codec
from edgesem.packet.packet import Packet
from runtime.bench.link.av1_sender import Av1Options, Av1Sender, Fragment, follower_of
from runtime.bench.link.clip import Image
from runtime.bench.link.endpoints import TOPICS
from runtime.bench.link.live_receivers import Receiver, SemanticReceiver, Subscription, VideoReceiver
from runtime.bench.link.model import BROKER_S, TcpModel
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.sender.message_format import MessageFormat
from runtime.sender.pipeline import SenderPipeline


@dataclass
class LinkPath:
    """The way from a sender to the receivers and back: a link, TCP on it, a broker at its end."""

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
        """Something small goes back from the broker."""
        self.tcp.call_at(self.now_s + self.delay_s + BROKER_S, call)


class Ends(Protocol):
    """A sender and its receivers."""

    encode_s: list[float]
    """Processor time of each frame that was encoded."""

    @property
    def receivers(self) -> Sequence[Receiver]:
        """Those of the subscriptions, in their order."""

    @property
    def keyframes(self) -> int:
        """How many keyframes were sent."""

    @property
    def background_keyframes(self) -> int:
        """Of these, how many were predicted from a background picture of the bundle."""

    def offer(self, tick: int, image: Image) -> None:
        """The camera has a new frame."""

    def step(self) -> None:
        """All that is to be done at the path's time."""

    def close(self) -> None:
        """The run is over."""


class SemanticEnds:
    """edgesem's sender pipeline and its receivers; `size` is width and height of the camera's pictures."""

    def __init__(
        self,
        codec: Codec,
        path: LinkPath,
        control: Control,
        *,
        size: tuple[int, int],
        subscriptions: Sequence[Subscription],
    ) -> None:
        self.encode_s: list[float] = []
        self.keyframes = self.background_keyframes = 0
        self._path = path
        self._captured_s: dict[int, float] = {}
        self._ticks: dict[int, int] = {}
        self._sender = SenderPipeline(
            codec=codec,
            topics=TOPICS,
            control=control,
            publish=self._publish,
            on_event=self._note,
            clock=lambda: self._path.now_s,
        )
        self._sender.connected(2 * path.delay_s + BROKER_S)
        self.receivers = [
            SemanticReceiver(
                one,
                codec=codec,
                size=size,
                answer=self._answer,
                captured_s=lambda frame: self._captured_s[self._ticks[frame]],
            )
            for one in subscriptions
        ]

    def offer(self, tick: int, image: Image) -> None:
        """As of Ends."""
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
        for receiver in self.receivers:
            receiver.step(self._path.now_s)

    def close(self) -> None:
        """As of Ends."""

    def _note(self, event: Any) -> None:
        if event.event == "packed":
            self._ticks[event.frame] = int(event.name)
            self.keyframes += event.refers_to is None

    def _publish(self, topic: str, payload: bytes, confirm: Callable[[], None]) -> None:
        packet = Packet.from_bytes(payload)
        self.background_keyframes += packet.first_layer == 0 and packet.side_info.background is not None

        def arrived() -> None:
            for receiver in self.receivers:
                if receiver.subscription.takes(self._path.now_s):
                    receiver.take(packet, self._path.now_s)

        self._path.send(self._sender.publisher.format.around_bytes + len(payload), arrived, confirm)

    def _answer(self, answer: Ack | Command) -> None:
        topic = TOPICS.ack if isinstance(answer, Ack) else TOPICS.cmd
        self._path.answer(lambda: self._sender.on_message(topic, answer.to_bytes()))


class VideoEnds:
    """A sender of AV1 and its receivers; `size` is width and height of the camera's pictures."""

    background_keyframes = 0

    def __init__(
        self,
        options: Av1Options,
        path: LinkPath,
        control: Control,
        rate_hz: float,
        *,
        size: tuple[int, int],
        subscriptions: Sequence[Subscription],
    ) -> None:
        self.encode_s: list[float] = []
        self._path, self._captured_s = path, dict[int, float]()
        self._follower = follower_of(options, rate_hz)
        around_bytes = MessageFormat(TOPICS, None).around_bytes
        self._sender = Av1Sender(self._follower, control, around_bytes=around_bytes, publish=self._publish)
        control.connected(0.0, 2 * path.delay_s + BROKER_S)
        self.receivers = [
            VideoReceiver(one, size=size, ask=self._ask, captured_s=self._captured_s.__getitem__)
            for one in subscriptions
        ]

    @property
    def keyframes(self) -> int:
        """As of Ends."""
        return self._follower.keyframes

    def offer(self, tick: int, image: Image) -> None:
        """As of Ends."""
        self._captured_s[tick] = self._path.now_s
        self._sender.offer(tick, image)

    def step(self) -> None:
        """As of Ends."""
        before_s = time.process_time()
        if self._sender.step(self._path.now_s):
            self.encode_s.append(time.process_time() - before_s)
        for receiver in self.receivers:
            receiver.step(self._path.now_s)

    def close(self) -> None:
        """As of Ends."""
        self._follower.close()

    def _publish(self, fragment: Fragment, size_bytes: int, confirm: Callable[[float], None]) -> None:
        def arrived() -> None:
            for receiver in self.receivers:
                if receiver.subscription.takes(self._path.now_s):
                    receiver.take(fragment, self._path.now_s)

        self._path.send(size_bytes, arrived, lambda: confirm(self._path.now_s))

    def _ask(self, number: int | None) -> None:
        self._path.answer(lambda: self._sender.ask_for_key(number))
