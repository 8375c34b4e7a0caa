"""Receivers of a simulated run: what of a stream reaches them, what they decode of it, and what they answer.

link -> broker -> (not lost) -> reassembly -> decoder -> picture
                                                      -> acknowledgement, or a request of a keyframe
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.low_delay_video import LowDelayDecoder
from edgesem.packet.packet import Packet
from runtime.bench.link.av1_sender import LIBRARY, Fragment
from runtime.bench.link.clip import Image
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.frame_queue import FrameQueue
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.sender_requests import KEY_EVERY_S
from runtime.receiver.sender_start import SenderStart
from runtime.receiver.stream_references import ReferenceBuffer
from runtime.receiver.streams import PATIENCE_S

_LOSS_S = 0.1
_LOSS_SEED = 21


@dataclass(frozen=True)
class Subscription:
    """What of a stream reaches a receiver behind the broker: all from a time on, but what is lost by chance.

    Lost is all that comes within some tenths of a second, `loss` of them. They are the same for every sender.
    """

    number: int = 1
    """Which receiver, from 1."""
    since_s: float = 0.0
    loss: float = 0.0

    def takes(self, now_s: float) -> bool:
        """Whether a message that is at the broker now comes to the receiver."""
        if now_s < self.since_s:
            return False
        chance = random.Random(f"{_LOSS_SEED}/{self.number}/{int(now_s / _LOSS_S + 1e-6)}")
        return not self.loss or chance.random() >= self.loss


class Receiver(Protocol):
    """A receiver, as far as a run looks at it."""

    subscription: Subscription
    picture: Image | None
    """What the viewer sees."""
    arrivals: list[tuple[float, float]]
    """When each picture was shown, and when it was captured."""


class SemanticReceiver:
    """Of edgesem's receiver, reassembly, queue, references and decoder. `now_s` is the time of the run.

    One that comes after the sender has begun asks for a keyframe at once: the broker has kept birth and state for it.

    size: width and height of the camera's pictures. answer: what to do with an acknowledgement or a command, at once.
    captured_s: when a frame was captured, by its number.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        codec: Codec,
        size: tuple[int, int],
        answer: Callable[[Ack | Command], None],
        captured_s: Callable[[int], float],
    ) -> None:
        self.subscription = subscription
        self.picture: Image | None = None
        self.arrivals: list[tuple[float, float]] = []
        self._codec, self._size, self._answer, self._captured_s = codec, size, answer, captured_s
        self._start, self._queue = SenderStart(), FrameQueue(ReceiverCounters())
        self._references = ReferenceBuffer()
        self._last_s = 0.0
        self._asked_s = float("-inf")
        self._is_late = subscription.since_s > 0

    def take(self, packet: Packet, now_s: float) -> None:
        """A message has arrived: acknowledge it, and queue what it completes."""
        self._last_s = now_s
        self._acknowledge(packet, packet.first_layer, held=0, now_s=now_s)
        self._queue.add(self._start, self._start.reassembly.add(packet))

    def step(self, now_s: float) -> None:
        """Decode what is complete, or as complete as it will be."""
        if self._is_late and now_s >= self.subscription.since_s:
            self._is_late = False
            self._ask(now_s)
        if now_s >= self._last_s + PATIENCE_S and self._start.reassembly.due_s(PATIENCE_S) is not None:
            self._queue.add(self._start, self._start.reassembly.early())
        while isinstance(packet := self._queue.pop(), Packet):
            self._decode(packet, now_s)

    def _decode(self, packet: Packet, now_s: float) -> None:
        named, layers = packet.side_info.reference, len(packet.chunks)
        known: Latent | None = None
        if named is not None:
            held = self._references.get(packet.epoch, named.frame, named.layers)
            if held is None:
                if now_s - self._asked_s >= KEY_EVERY_S:
                    self._ask(now_s)
                return
            known = held.latent(self._codec.bundle.gain)
        latent = self._codec.unpack(packet, known)
        self._references.put(packet.epoch, packet.frame, layers, HeldLatent.of(latent, self._codec.bundle.gain))
        self._acknowledge(packet, layers - 1, held=layers, now_s=now_s)
        self.picture = _enlarged(self._codec.synthesize(latent), self._size)
        self.arrivals.append((now_s, self._captured_s(packet.frame)))

    def _ask(self, now_s: float) -> None:
        self._asked_s = now_s
        self._answer(Command("key"))

    def _acknowledge(self, packet: Packet, layer: int, *, held: int, now_s: float) -> None:
        number = self.subscription.number
        self._answer(Ack(packet.epoch, packet.frame, layer, round(1000 * now_s), 0, receiver=number, held=held))


class VideoReceiver:
    """Receiver of AV1: shows each frame when its last fragment is there.

    Where a fragment is missing it keeps its picture until the next keyframe, which it asks for at once: a frame whose
    references are damaged is not shown. `ask(number)`: the fragment of this number came after a gap; None: it has had
    none, and comes after the sender has begun.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        size: tuple[int, int],
        ask: Callable[[int | None], None],
        captured_s: Callable[[int], float],
    ) -> None:
        self.subscription = subscription
        self.picture: Image | None = None
        self.arrivals: list[tuple[float, float]] = []
        self._size, self._ask, self._captured_s = size, ask, captured_s
        self._decoder: LowDelayDecoder | None = None
        self._parts: list[bytes] = []
        self._next = 0
        self._is_late = subscription.since_s > 0

    def take(self, fragment: Fragment, now_s: float) -> None:
        """A fragment has arrived; TCP and the broker keep their order."""
        gap, self._next = fragment.number != self._next, fragment.number + 1
        if fragment.is_key and fragment.part == 0:
            self._decoder, self._parts = LowDelayDecoder(LIBRARY), []
        elif gap:
            self._decoder = None
            self._ask(fragment.number)
        if self._decoder is None:
            return
        self._parts.append(fragment.data)
        if fragment.part == fragment.parts - 1:
            data, self._parts = b"".join(self._parts), []
            width, height = self._size
            self.picture = self._decoder.decode(data, height, width)
            self.arrivals.append((now_s, self._captured_s(fragment.tick)))

    def step(self, now_s: float) -> None:
        """Ask for a first keyframe, if it is time to; nothing else waits here."""
        if self._is_late and now_s >= self.subscription.since_s:
            self._is_late = False
            self._ask(None)


def _enlarged(picture: Image, size: tuple[int, int]) -> Image:
    """A picture that was sent with fewer pixels, as large as the camera's."""
    from PIL import Image as Pillow

    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.BICUBIC))
