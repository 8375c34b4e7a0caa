"""Packets in, pictures out, and an acknowledgement for each layer: `Packet -> Latent -> Picture -> Sink`.

`python -m runtime.receiver JOB.json` receives one stream until its standard input closes.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import LinkError, PacketError
from edgesem.packet import Packet
from runtime.ack import Ack
from runtime.assembly import Assembly
from runtime.capture import clock_ms, elapsed_s
from runtime.job import Job, emit, run_child, stdin_closed
from runtime.mqtt import Address, Connection, Topics
from runtime.sinks import FolderSink

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.1  # how often the decoding thread looks whether it shall end


class Decoder(Protocol):
    """What a receiver needs of a codec."""

    def unpack(self, packet: Packet) -> Any:
        """The latent in a packet."""

    def synthesize(self, latent: Any) -> NDArray[np.uint8]:
        """The picture of a latent."""


@dataclass
class Counters:
    """What came, since the start."""

    layers: int = 0
    malformed: int = 0
    """Messages that were not one layer of a packet, or not one for our bundle."""
    undecodable: int = 0
    """Frames whose packets were well-formed, but not what is in them."""
    dropped: int = 0
    """Frames given up because decoding fell behind."""


@dataclass(frozen=True)
class Picture:
    """A frame as it was received."""

    packet: Packet
    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    decode_s: float


class Receiver:
    """Takes the messages of one stream, acknowledges each layer at once, and decodes each frame once.

    `on_message` runs on the network thread, `next_picture` where there is time for it. Between the two wait at most
    `backlog` frames; when one more comes, the oldest is given up. Neither raises because of what came from outside.
    """

    def __init__(
        self,
        *,
        codec: Decoder,
        bundle_id: int,
        topics: Topics,
        acknowledge: Callable[[Ack], None],
        backlog: int = 2,
    ) -> None:
        self.counters = Counters()
        self._codec = codec
        self._bundle_id = bundle_id
        self._topics = topics
        self._acknowledge = acknowledge
        self._assembly = Assembly()
        self._waiting: queue.Queue[Packet] = queue.Queue(backlog)
        self._decode_ms = 0

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one MQTT message. A bad one costs one counter and one log line."""
        received_ms = clock_ms()
        try:
            part = self._parse(topic, payload)
            finished = self._assembly.add(part)
        except PacketError as error:
            self.counters.malformed += 1
            log.warning("dropped a message on %s: %s", topic, error)
            return
        self.counters.layers += 1
        self._acknowledge(Ack(part.epoch, part.frame, part.first_layer, received_ms, self._decode_ms))
        for packet in finished:
            self._enqueue(packet)

    def flush(self) -> None:
        """No more messages will come: finish the frame under way as far as it is here."""
        for packet in self._assembly.flush():
            self._enqueue(packet)

    def next_picture(self, *, timeout_s: float) -> Picture | None:
        """Decode the next frame that waits; None if there was none in time, or if it could not be decoded."""
        try:
            packet = self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            return None
        started_s = time.monotonic()
        try:
            image = self._codec.synthesize(self._codec.unpack(packet))
        except Exception as error:  # a stranger's bytes, or a defect of ours: neither may end the daemon
            self.counters.undecodable += 1
            log.warning("cannot decode frame %d: %s: %s", packet.frame, type(error).__name__, error)
            return None
        decode_s = time.monotonic() - started_s
        self._decode_ms = int(decode_s * 1000)
        return Picture(packet, image, decode_s)

    def _parse(self, topic: str, payload: bytes) -> Packet:
        part = Packet.from_bytes(payload)
        if len(part.chunks) != 1 or topic != self._topics.layer(part.first_layer):
            raise PacketError(f"carries {len(part.chunks)} layers from {part.first_layer} on, does not match its topic")
        if part.bundle_id != self._bundle_id:
            raise PacketError(f"made with bundle {part.bundle_id:04x}, this receiver has {self._bundle_id:04x}")
        return part

    def _enqueue(self, packet: Packet) -> None:
        while True:
            try:
                return self._waiting.put_nowait(packet)
            except queue.Full:
                try:
                    given_up = self._waiting.get_nowait()
                except queue.Empty:
                    continue  # the decoder was faster
                self.counters.dropped += 1
                log.warning("gave up frame %d: decoding is slower than the stream", given_up.frame)


def receive(job: Job) -> None:
    """Receive the stream that the job describes into its folder, and tell of each picture."""
    import edgesem

    stop = stdin_closed()
    codec = edgesem.load(job["bundle"])
    topics = Topics(**job["topics"])
    sink = FolderSink(Path(job["folder"]))

    def acknowledge(ack: Ack) -> None:
        try:
            connection.publish(topics.ack, ack.to_bytes())
        except LinkError as error:
            log.warning("acknowledgement of frame %d not sent: %s", ack.frame, error)

    receiver = Receiver(
        codec=codec, bundle_id=codec.bundle.id, topics=topics, acknowledge=acknowledge, backlog=job["backlog"]
    )
    connection = Connection(
        Address(**job["broker"]), name="receiver", subscribe=topics.every_layer, on_message=receiver.on_message
    )
    with connection:
        emit(event="ready", mqtt=connection.version)
        while True:
            stopping = stop.is_set()
            if stopping:
                receiver.flush()
            picture = receiver.next_picture(timeout_s=0 if stopping else _LOOK_UP_S)
            if picture is not None:
                _deliver(picture, sink)
            elif stopping:
                break
    counters = receiver.counters
    emit(
        event="done",
        layers=counters.layers,
        malformed=counters.malformed,
        undecodable=counters.undecodable,
        dropped=counters.dropped,
    )


def _deliver(picture: Picture, sink: FolderSink) -> None:
    packet = picture.packet
    path = sink.write(packet.frame, picture.image)
    emit(
        event="picture",
        frame=packet.frame,
        file=str(path),
        layers=len(packet.chunks),
        size_bytes=packet.wire_bytes,
        q=packet.q,
        decode_s=round(picture.decode_s, 4),
        delay_s=round(elapsed_s(packet.time_ms, clock_ms()), 3),
    )


if __name__ == "__main__":
    raise SystemExit(run_child(receive))
