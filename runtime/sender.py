"""Frames in, packets out, no more of them than the link takes: `Frame -> Latent -> Packet -> Link`.

    capture -> analyze once -> budget from the measured rate -> pack -> mailbox (one frame) -> one message a layer

`python -m runtime.sender JOB.json` sends the pictures of one folder.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import BudgetError, LinkError, PacketError
from edgesem.packet import HEADER_BYTES, MAX_LAYERS, Packet
from runtime.ack import Ack
from runtime.capacity import Capacity
from runtime.capture import MIN_SIDE, Frame, capture, elapsed_s
from runtime.control import Control
from runtime.job import Job, emit, run_child, stdin_closed
from runtime.mqtt import Address, Connection, Topics

log = logging.getLogger(__name__)

_ACK_TIMEOUT_S = 20.0
_LOOK_UP_S = 0.1  # how often a waiting sender looks whether it shall end
_MQTT_BYTES = 8  # of a PUBLISH besides topic and payload: fixed header, topic length, packet id, properties


class Encoder(Protocol):
    """What a sender needs of a codec."""

    def analyze(self, frame: NDArray[np.uint8]) -> Any:
        """The latent of a picture."""

    def pack(self, latent: Any, *, budget_bytes: int, epoch: int, frame: int, time_ms: int) -> Packet:
        """The packet of a latent in at most so many bytes."""


class _UnderWay(NamedTuple):
    """A published layer that waits for its acknowledgement."""

    size_bytes: int
    sent_s: float
    time_ms: int
    """When its frame was captured."""


class Sender:
    """Sends frames in order, at most one each interval of `control`, and learns the link's rate from acknowledgements.

    Two threads: `send` makes packets, and a second one publishes their layers while its window of unacknowledged bytes
    has room. Between them is a mailbox for one frame: layers that still wait when the next frame is ready are not sent
    any more, except the base layer. So nothing stale ever stands in a queue, here or in the MQTT client.

    `publish(topic, payload)` may raise LinkError: the layer is then tried again. `tell` takes what there is to report.
    """

    def __init__(
        self,
        *,
        codec: Encoder,
        topics: Topics,
        control: Control,
        capacity: Capacity,
        publish: Callable[[str, bytes], None],
        tell: Callable[..., None],
        stop: threading.Event,
    ) -> None:
        self.epoch = secrets.randbelow(2**16)
        self.unacknowledged = 0
        """Layers that were given up, because no acknowledgement came in time."""
        self._codec = codec
        self._topics = topics
        self._control = control
        self._capacity = capacity
        self._publish = publish
        self._tell = tell
        self._stop = stop
        self._changed = threading.Condition()
        self._mailbox: deque[Packet] = deque()
        self._put_s = float("-inf")
        """When what is in the mailbox was put there."""
        self._under_way: dict[tuple[int, int], _UnderWay] = {}

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one acknowledgement; runs on the network thread. A bad one costs one log line."""
        now_s = time.monotonic()
        try:
            ack = Ack.from_bytes(payload)
        except PacketError as error:
            log.warning("dropped a message on %s: %s", topic, error)
            return
        with self._changed:
            layer = self._under_way.pop((ack.frame, ack.layer), None) if ack.epoch == self.epoch else None
            if layer is None:
                return
            self._capacity.acked(size_bytes=layer.size_bytes, sent_s=layer.sent_s, now_s=now_s)
            self._changed.notify_all()
        delay_s = elapsed_s(layer.time_ms, ack.received_ms)
        self._tell(event="acked", frame=ack.frame, layer=ack.layer, delay_s=round(delay_s, 3))

    def send(self, frames: Iterable[Frame]) -> None:
        """Send all `frames` and wait until each layer is acknowledged or given up, or for the stop."""
        publisher = threading.Thread(target=self._publish_layers, name="sender.publish", daemon=True)
        publisher.start()
        slot_s = time.monotonic()
        pack_s = 0.0
        for number, frame in enumerate(frames):
            started_s = time.monotonic()
            latent = self._codec.analyze(frame.image)
            analyzed_s = time.monotonic()
            rate_bps, budget_bytes = self._budget(pack_s)
            packet = self._pack(latent, budget_bytes, number, frame.time_ms)
            pack_s = time.monotonic() - analyzed_s
            self._tell(
                event="packed",
                frame=number,
                name=frame.name,
                budget_bytes=budget_bytes,
                capacity_bps=None if rate_bps is None else round(rate_bps),
                layers_packed=len(packet.chunks),
                q=packet.q,
                analyze_s=round(analyzed_s - started_s, 4),
                pack_s=round(pack_s, 4),
            )
            self._put(packet)
            slot_s = max(slot_s + self._control.interval_s, time.monotonic())
            if self._stop.wait(slot_s - time.monotonic()):
                break
        with self._changed:
            while (self._mailbox or self._under_way) and not self._stop.is_set():
                self._changed.wait(_LOOK_UP_S)
                self._give_up()
        self._stop.set()
        publisher.join()

    def _budget(self, pack_s: float) -> tuple[float | None, int]:
        """The measured rate, and what the next packet may have, given that packing takes about `pack_s`."""
        with self._changed:
            rate_bps = self._capacity.rate_bps
            backlog_bytes = self._under_way_bytes() + sum(self._message_bytes(part) for part in self._mailbox)
        return rate_bps, self._control.budget_bytes(rate_bps=rate_bps, backlog_bytes=backlog_bytes, ready_in_s=pack_s)

    def _pack(self, latent: Any, budget_bytes: int, number: int, time_ms: int) -> Packet:
        """The packet whose messages, with all that MQTT adds, fit the budget; or the smallest there is.

        These frames are promised to somebody, so one that is too big for its time is sent and not skipped.
        """
        around_bytes = MAX_LAYERS * (len(self._topics.layer(0)) + _MQTT_BYTES + HEADER_BYTES)
        about = {"epoch": self.epoch, "frame": number, "time_ms": time_ms}
        try:
            return self._codec.pack(latent, budget_bytes=max(1, budget_bytes - around_bytes), **about)
        except BudgetError as error:
            return self._codec.pack(latent, budget_bytes=error.smallest_bytes, **about)

    def _put(self, packet: Packet) -> None:
        """Put a frame into the mailbox, in place of what is there.

        What is there gets the interval that its budget was made for, and a base layer all the time that it needs.
        """
        with self._changed:
            while self._mailbox and not self._stop.is_set():
                left_s = self._put_s + self._control.interval_s - time.monotonic()
                if left_s <= 0 and self._mailbox[0].first_layer > 0:
                    break
                self._changed.wait(min(left_s, _LOOK_UP_S) if left_s > 0 else _LOOK_UP_S)
            self._mailbox = deque(packet.split())
            self._put_s = time.monotonic()
            self._changed.notify_all()

    def _publish_layers(self) -> None:
        """Publish what is in the mailbox, layer by layer, while the window has room; until the stop."""
        while not self._stop.is_set():
            with self._changed:
                self._give_up()
                part = self._mailbox[0] if self._mailbox else None
                if part is None or not self._has_room(self._message_bytes(part)):
                    self._changed.wait(_LOOK_UP_S)
                    continue
                # Noted before it is published: its acknowledgement may be here before we are.
                key = (part.frame, part.first_layer)
                self._under_way[key] = _UnderWay(self._message_bytes(part), time.monotonic(), part.time_ms)
            try:
                self._publish(self._topics.layer(part.first_layer), part.to_bytes())
            except LinkError as error:
                log.warning("frame %d layer %d waits: %s", part.frame, part.first_layer, error)
                with self._changed:
                    self._under_way.pop(key, None)
                self._stop.wait(_LOOK_UP_S)
                continue
            self._tell(event="sent", frame=part.frame, layer=part.first_layer, size_bytes=part.size_bytes)
            with self._changed:
                if self._mailbox and self._mailbox[0] is part:  # else the next frame has taken its place
                    self._mailbox.popleft()
                    self._changed.notify_all()

    def _has_room(self, size_bytes: int) -> bool:
        under_way_bytes = self._under_way_bytes()
        window_bytes = self._control.window_bytes(rate_bps=self._capacity.rate_bps)
        return not under_way_bytes or under_way_bytes + size_bytes <= window_bytes

    def _message_bytes(self, part: Packet) -> int:
        """What a layer's message has on the wire."""
        return len(self._topics.layer(part.first_layer)) + _MQTT_BYTES + part.size_bytes

    def _under_way_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self._under_way.values())

    def _give_up(self) -> None:
        """Forget layers that nobody acknowledged, so that the stream goes on."""
        oldest_s = time.monotonic() - _ACK_TIMEOUT_S
        for key in [key for key, layer in self._under_way.items() if layer.sent_s < oldest_s]:
            del self._under_way[key]
            self.unacknowledged += 1
            log.warning("frame %d layer %d: no acknowledgement within %.0f s", *key, _ACK_TIMEOUT_S)


def send(job: Job) -> None:
    """Send the pictures of the job's folder over its broker, and tell of each frame."""
    import edgesem

    stop = stdin_closed()
    codec = edgesem.load(job["bundle"])
    topics = Topics(**job["topics"])
    capacity = Capacity()
    sender = Sender(
        codec=codec,
        topics=topics,
        control=Control(interval_s=job["interval_s"]),
        capacity=capacity,
        publish=lambda topic, payload: connection.publish(topic, payload),
        tell=emit,
        stop=stop,
    )
    connection = Connection(Address(**job["broker"]), name="sender", subscribe=topics.ack, on_message=sender.on_message)
    # Loads the networks: the first real frame shall not wait for that.
    codec.pack(codec.analyze(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)), quality=0)
    with connection:
        capacity.min_rtt_s = connection.rtt_s or 0.0
        emit(
            event="ready",
            mqtt=connection.version,
            min_rtt_s=round(capacity.min_rtt_s, 4),
            bundle_id=codec.bundle.id,
            bundle_digest=codec.bundle.digest,
        )
        sender.send(capture(Path(job["folder"]), job["count"]))
    rate_bps = capacity.rate_bps
    emit(
        event="done",
        unacknowledged=sender.unacknowledged,
        capacity_bps=None if rate_bps is None else round(rate_bps),
    )


if __name__ == "__main__":
    raise SystemExit(run_child(send))
