"""Packets in, pictures out, and an acknowledgement for each layer: `Packet -> Latent -> Picture -> Sink`.

`python -m runtime.demo.receiver JOB.json` receives one stream until its standard input closes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.codec import Codec
from edgesem.errors import LinkError
from edgesem.packet.packet import Packet
from edgesem.provenance import Drawn
from runtime.mqtt.connection import Address, Connection, Topics
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.receiver.inbox import Counters, Inbox
from runtime.receiver.sinks import FolderSink

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.1  # how often the decoding thread looks whether it shall end


class Decoder(Protocol):
    """What a receiver needs of a codec."""

    def unpack(self, packet: Packet) -> Any:
        """The latent in a packet."""

    def synthesize(self, latent: Any) -> NDArray[np.uint8]:
        """The picture of a latent."""


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
    For many streams, with decoders in processes of their own, see `runtime.receiver.stream_receiver`.
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
        self._codec = codec
        self._inbox = Inbox(topics=topics, bundle_id=bundle_id, acknowledge=acknowledge, backlog=backlog)
        self._changed = threading.Condition()

    @property
    def counters(self) -> Counters:
        """What came, since the start."""
        return self._inbox.counters

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one MQTT message. A bad one costs one counter and a log line."""
        with self._changed:
            self._inbox.take(topic, payload)
            self._changed.notify_all()

    def flush(self) -> None:
        """No more messages will come: finish the frame under way as far as it is here."""
        with self._changed:
            self._inbox.flush()

    def next_picture(self, *, timeout_s: float) -> Picture | None:
        """Decode the next frame that waits; None if there was none in time, or if it could not be decoded."""
        with self._changed:
            self._changed.wait_for(lambda: self._inbox.waiting, timeout_s)
            packet = self._inbox.pop()
        if packet is None:
            return None
        started_s = time.monotonic()
        try:
            image = self._codec.synthesize(self._codec.unpack(packet))
        except Exception as error:  # a stranger's bytes, or a defect of ours: neither may end the daemon
            self.counters.undecodable += 1
            log.warning("cannot decode frame %d: %s: %s", packet.frame, type(error).__name__, error)
            return None
        decode_s = time.monotonic() - started_s
        self._inbox.decode_ms = int(decode_s * 1000)
        return Picture(packet, image, decode_s)


def receive(job: Job) -> None:
    """Receive the stream that the job describes into its folder, and tell of each picture."""
    import edgesem

    stop = stdin_closed()
    codec = edgesem.load(job["bundle"])
    topics = Topics(**job["topics"])
    sink, drawn = FolderSink(Path(job["folder"])), FolderSink(Path(job["folder"]) / "one-step")

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
                _deliver(picture, codec, sink)
                if codec.has_flow:
                    _draw(picture, codec, drawn)
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


def _deliver(picture: Picture, codec: Codec, sink: FolderSink) -> None:
    packet = picture.packet
    path = sink.write(packet.frame, picture.image, Drawn.of(packet, codec.bundle))
    emit(
        event="picture",
        frame=packet.frame,
        file=str(path),
        layers=len(packet.chunks),
        size_bytes=packet.size_bytes,
        q=packet.q,
        decode_s=round(picture.decode_s, 4),
        delay_s=round(elapsed_s(packet.time_ms, clock_ms()), 3),
    )


def _draw(picture: Picture, codec: Codec, sink: FolderSink) -> None:
    """The same frame again, as one step of the flow decoder redraws it."""
    started_s = time.monotonic()
    image = codec.synthesize(codec.unpack(picture.packet), steps=1)
    decode_s = round(time.monotonic() - started_s, 4)
    path = sink.write(picture.packet.frame, image, Drawn.of(picture.packet, codec.bundle, steps=1))
    emit(event="drawn", frame=picture.packet.frame, file=str(path), decode_s=decode_s)


if __name__ == "__main__":
    raise SystemExit(run_child(receive))
