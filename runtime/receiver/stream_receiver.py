"""A receiver of many streams, whole: connection, inboxes, decoders, and what becomes of each picture.

with Reception(Address("127.0.0.1", 1883), "home/+/+") as reception:
    for picture in reception.pictures():
        print(picture.stream, picture.packet.frame, picture.image.shape, f"{picture.delay_s:.2f} s")
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.bundle import Bundle
from edgesem.errors import EdgesemError, UsageError
from edgesem.packet.packet import MAX_LAYERS, Packet
from edgesem.provenance import Drawn
from runtime.mqtt.connection import Address, Connection, Topics
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.protocol.command import Command
from runtime.receiver.archive import Archive
from runtime.receiver.decoder_process import Decoder, Drawing
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.receiver.stream import Limits, Stream
from runtime.receiver.streams import Streams

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.5
_MOST_FILTERS = 32


@dataclass(frozen=True)
class Received:
    """A picture as it was received."""

    stream: str
    """`site/device/stream`."""
    topics: Topics
    packet: Packet
    image: NDArray[np.uint8]
    """uint8 [H, W, 3], RGB."""
    steps: int
    """How many steps of the flow decoder drew it."""
    decode_s: float
    delay_s: float
    """From its capture to now, as far as both clocks agree."""
    drawn: Drawn | None = None
    """What its file says of how it was made."""


class StreamReceiver:
    """Receives streams until it is left.

    `streams` are filters `site/device/stream` in which `+` stands for any name. `on_picture` is called on the decoders'
    threads, for one stream in order; without it, take the pictures from `pictures()`. Pictures that are not taken hold
    up the decoders, and then newer ones replace those that wait. With a `folder`, promised frames are kept in it.
    `archive` takes each packet whose turn has come, drawn or not; `only` says which are drawn. `on_forgotten` is told
    the name of a stream that was silent for long and had to make room for another.
    """

    def __init__(
        self,
        address: Address,
        streams: str | Sequence[str] = "+/+/+",
        *,
        on_picture: Callable[[Received], None] | None = None,
        bundle: Path | None = None,
        layers: int = MAX_LAYERS,
        drawing: Drawing | None = None,
        workers: int | None = None,
        limits: Limits | None = None,
        folder: Path | None = None,
        key: bytes | None = None,
        archive: Archive | None = None,
        only: SemanticFilter | None = None,
        on_forgotten: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not 1 <= layers <= MAX_LAYERS:
            raise UsageError(f"layers must be 1 to {MAX_LAYERS}, got {layers}")
        self.max_steps = 0
        self._filters = topic_filters([streams] if isinstance(streams, str) else streams, layers)
        self._workers = workers or os.cpu_count() or 1
        self._address, self._bundle, self._layers, self._key = address, bundle, layers, key
        self._drawing, self._limits, self._folder = drawing or Drawing(), limits, folder
        self._archive, self._only, self._on_forgotten = archive, only, on_forgotten
        self._queue: queue.Queue[Received] = queue.Queue(1)
        self._on_picture = on_picture or self._offer
        self._stop = threading.Event()
        self._limited_log = RateLimitedLog(log)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StreamReceiver:
        with contextlib.ExitStack() as stack:
            decoders = [stack.enter_context(Decoder(self._bundle)) for _ in range(self._workers)]
            self.max_steps = decoders[0].max_steps
            if self._drawing.steps > self.max_steps:
                raise UsageError(
                    f"steps is {self._drawing.steps}, but the bundle has no flow decoder: leave it at 0, "
                    "or name a bundle that has one"
                )
            self._opened = Bundle.open(self._bundle)
            promised_store = None if self._folder is None else stack.enter_context(PromisedStore(self._folder))
            self.streams = Streams(
                bundle_id=decoders[0].bundle_id,
                publish=lambda topic, payload, qos: self.connection.publish(topic, payload, qos=qos),
                decoders=len(decoders),
                layers=self._layers,
                drawing=self._drawing,
                limits=self._limits,
                promised_store=promised_store,
                key=self._key,
                references=decoders[0].has_reference,
                on_forgotten=self._on_forgotten,
            )
            self.connection = Connection(
                self._address,
                name="receiver",
                subscribe=self._filters,
                on_message=self.streams.on_message,
                patient=True,
            )
            self.streams.recover()
            threads = [
                threading.Thread(target=self._work, args=(decoder,), name=f"decoder.{number}", daemon=True)
                for number, decoder in enumerate(decoders)
            ]
            for thread in threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(self._stop.set)
            stack.enter_context(self.connection)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pictures(self) -> Iterator[Received]:
        """The pictures as they are decoded, until the reception is left or stopped."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                yield self._queue.get(timeout=_LOOK_UP_S)

    def stop(self) -> None:
        """Let `pictures` and `wait` end; may be called from anywhere."""
        self._stop.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for `stop`; whether it came in time."""
        return self._stop.wait(timeout_s)

    def command(self, stream: Stream, command: Command) -> None:
        """Ask the sender of a stream for something. LinkError if it cannot be said now."""
        topic, payload = stream.topics.cmd, command.to_bytes()
        if self._key is not None:
            if stream.inbox.seal is None:
                raise UsageError(f"{stream.name} has not sent a packet yet that our key opens: its commands are signed")
            payload = stream.inbox.seal.sign(payload, topic)
        self.connection.publish(topic, payload)

    def _work(self, decoder: Decoder) -> None:
        while not self._stop.is_set():
            job = self.streams.next_frame(_LOOK_UP_S)
            if job is None:
                continue
            stream, packet = job
            self._archive_one(stream, packet)
            wanted = self._only is None or self._only.wants(packet)
            if not wanted and not decoder.has_reference:  # where later frames may refer to this one, it is decoded
                self.streams.done(stream, decode_s=0.0, good=True)
                continue
            drawing, started_s, good = stream.drawing, time.monotonic(), False
            decode_s = 0.0
            try:
                image, latent = decoder.draw_known(packet, drawing, self.streams.reference(stream, packet))
                if latent is not None:
                    self.streams.hold(stream, packet, latent)
                decode_s, good = time.monotonic() - started_s, True
                delay_s = elapsed_s(packet.time_ms, clock_ms())
                steps = min(drawing.steps, decoder.max_steps)
                stream.history.add(size_bytes=packet.size_bytes, delay_s=delay_s, decode_s=decode_s)
                if wanted:
                    drawn = Drawn.of(packet, self._opened, steps=steps, seed=drawing.seed, realism=drawing.realism)
                    self._on_picture(
                        Received(stream.name, stream.topics, packet, image, steps, decode_s, delay_s, drawn)
                    )
            except EdgesemError as error:
                self._limited_log.warn("frame %d of %s: %s", packet.frame, stream.name, error)
            except Exception:  # a caller's callback, or a defect of ours: the other streams go on
                log.exception("frame %d of %s", packet.frame, stream.name)
            finally:
                self.streams.done(stream, decode_s=decode_s or time.monotonic() - started_s, good=good)

    def _archive_one(self, stream: Stream, packet: Packet) -> None:
        if self._archive is None:
            return
        captured_s = time.time() - elapsed_s(packet.time_ms, clock_ms())
        try:
            self._archive.add(stream.name, packet, captured_s)
        except EdgesemError as error:
            self._limited_log.warn("not archived: %s", error)

    def _offer(self, picture: Received) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(picture, timeout=_LOOK_UP_S)
                return


def topic_filters(streams: Sequence[str], layers: int) -> list[str]:
    """What to subscribe to for these `site/device/stream` filters. UsageError if one is none."""
    if not 1 <= len(streams) <= _MOST_FILTERS:
        raise UsageError(f"{len(streams)} streams named, 1 to {_MOST_FILTERS} can be: use + for any name")
    filters = []
    for stream in streams:
        parts = stream.split("/")
        if len(parts) != 3:
            raise UsageError(f"{stream!r} is no stream: write SITE/DEVICE/STREAM, with + for any name")
        topics = Topics(*("any" if part == "+" else part for part in parts))  # checks the names
        base = topics.base if "+" not in parts else "/".join(["edgesem/v1", *parts])
        packets = ["pkt/+"] if layers == MAX_LAYERS else [f"pkt/{layer}" for layer in range(layers)]
        filters += [f"{base}/{rest}" for rest in ("birth", "state", *packets)]
    return filters
