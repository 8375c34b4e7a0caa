"""Receiver of streams: subscribes to senders, decodes their frames in processes of their own, hands out the pictures.

with StreamReceiver(Address("127.0.0.1", 1883), "home/+/+") as receiver:
    for picture in receiver:
        print(picture.stream, picture.packet.frame, picture.image.shape, f"{picture.delay_s:.2f} s")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgesem.bundle.bundle import Bundle
from edgesem.errors import EdgesemError, UsageError
from edgesem.packet.packet import MAX_LAYERS, Packet
from edgesem.provenance import Provenance
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.options import ReceiverOptions
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.received_picture import PictureHandOver, ReceivedPicture
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.receiver.stream import Stream
from runtime.receiver.streams import Streams

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.5
_MAX_FILTERS = 32


class StreamReceiver:
    """Receiver of one or more streams. Use it as a context manager, or as one of `async with`.

    Pictures are taken in one of three ways: `for picture in receiver`, `async for picture in receiver`, or by
    `on_picture`. The loops end when the receiver is stopped. A picture that nobody takes holds up the decoders, and
    meanwhile newer frames replace those that wait: nothing stale is ever handed out.

    `streams` are filters `site/device/stream` in which `+` stands for any name. `bundle` is the folder of the senders'
    bundle, by default the one that ships. `folder` is where promised frames are kept: without one, none is acknowledged
    as kept. With a `key` (32 bytes), packets that are not sealed by it are refused. `on_picture` is called on the
    decoder threads, for one stream in order, for several at the same time; what it raises is logged. `archive` takes
    every packet whose turn has come; `semantic_filter` says which frames become pictures. `on_stream_forgotten` is
    called with the name of a stream that was silent for long and had to make room for another; it must not block.

    All methods may be called from any thread while the receiver is entered. A lost connection is taken up again by
    itself. Constructing raises UsageError for a filter that is none; entering raises BundleError if the bundle cannot
    be used, UsageError if it cannot do the steps asked for, and LinkError if a decoder does not start.
    """

    def __init__(
        self,
        address: Address,
        streams: str | Sequence[str] = "+/+/+",
        options: ReceiverOptions | None = None,
        *,
        bundle: Path | None = None,
        folder: Path | None = None,
        key: bytes | None = None,
        on_picture: Callable[[ReceivedPicture], None] | None = None,
        on_stream_forgotten: Callable[[str], None] = lambda _: None,
        archive: Archive | None = None,
        semantic_filter: SemanticFilter | None = None,
    ) -> None:
        self.options = options or ReceiverOptions()
        self.max_steps = 0
        """Most steps of the flow decoder that the bundle can do; known once the receiver is entered."""
        self.streams: Streams
        """The streams heard, with state, counters and history; there once the receiver is entered."""
        self.connection: Connection
        """The connection to the broker; there once the receiver is entered."""
        self._filters = topic_filters([streams] if isinstance(streams, str) else streams, self.options.layers)
        self._address, self._bundle_folder, self._folder, self._key = address, bundle, folder, key
        self._archive, self._semantic_filter = archive, semantic_filter
        self._on_stream_forgotten = on_stream_forgotten
        self._hand_over = PictureHandOver()
        self._iterable = on_picture is None
        self._on_picture = on_picture or self._hand_over.put
        self._bundle: Bundle
        self._stop = threading.Event()
        self._limited_log = RateLimitedLog(log)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StreamReceiver:
        options = self.options
        with contextlib.ExitStack() as stack:
            count = options.decoders or os.cpu_count() or 1
            decoders = [stack.enter_context(DecoderProcess(self._bundle_folder)) for _ in range(count)]
            self.max_steps = decoders[0].max_steps
            if options.synthesis.steps > self.max_steps:
                raise UsageError(
                    f"steps is {options.synthesis.steps}, but the bundle has no flow decoder: leave it at 0, "
                    "or name a bundle that has one"
                )
            self._bundle = Bundle.open(self._bundle_folder)
            store = None if self._folder is None else stack.enter_context(PromisedStore(self._folder))
            self.streams = Streams(
                bundle_id=decoders[0].bundle_id,
                publish=lambda topic, payload, qos: self.connection.publish(topic, payload, qos=qos),
                decoders=len(decoders),
                layers=options.layers,
                synthesis=options.synthesis,
                limits=options.limits,
                promised_store=store,
                key=self._key,
                references=decoders[0].has_reference,
                on_forgotten=self._on_stream_forgotten,
            )
            self.connection = Connection(
                self._address,
                name="receiver",
                subscribe=self._filters,
                on_message=self.streams.on_message,
                retry=True,
            )
            self.streams.recover()
            for number, decoder in enumerate(decoders):
                thread = threading.Thread(target=self._work, args=(decoder,), name=f"decoder.{number}", daemon=True)
                thread.start()
                stack.callback(thread.join)
            stack.callback(self.stop)
            stack.enter_context(self.connection)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def __aenter__(self) -> StreamReceiver:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def __iter__(self) -> Iterator[ReceivedPicture]:
        """The pictures as they are decoded, until the receiver is stopped. UsageError if it has an `on_picture`."""
        while (picture := self.next_picture()) is not None:
            yield picture

    def __aiter__(self) -> StreamReceiver:
        """As `for picture in receiver`, for asyncio: other tasks run while this one waits."""
        return self

    async def __anext__(self) -> ReceivedPicture:
        self._check_iterable()
        picture = await self._hand_over.get_async()
        if picture is None:
            raise StopAsyncIteration
        return picture

    def next_picture(self, timeout_s: float | None = None) -> ReceivedPicture | None:
        """Wait for the next picture; None if there is none within `timeout_s` seconds, or once it is stopped."""
        self._check_iterable()
        return self._hand_over.get(timeout_s)

    def stop(self) -> None:
        """End the loops over pictures and `wait`; may be called from a signal handler's thread and more than once."""
        self._stop.set()
        self._hand_over.close()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for `stop`; returns whether it came within `timeout_s` seconds."""
        return self._stop.wait(timeout_s)

    def command(self, stream: Stream, command: Command) -> None:
        """Ask the sender of a stream for something. Raises LinkError if there is no connection now."""
        topic, payload = stream.topics.cmd, command.to_bytes()
        if self._key is not None:
            if stream.inbox.seal is None:
                raise UsageError(f"{stream.name} has not sent a packet yet that our key opens: its commands are signed")
            payload = stream.inbox.seal.sign(payload, topic)
        self.connection.publish(topic, payload)

    def _check_iterable(self) -> None:
        if not self._iterable:
            raise UsageError("this receiver gives its pictures to on_picture: leave that out to iterate over them")

    def _work(self, decoder: DecoderProcess) -> None:
        """Decode frames until the stop; on a thread of its own."""
        while not self._stop.is_set():
            job = self.streams.next_frame(_LOOK_UP_S)
            if job is None:
                continue
            stream, packet = job
            self._add_to_archive(stream, packet)
            passes = self._semantic_filter is None or self._semantic_filter.passes(packet)
            if not passes and not decoder.has_reference:  # where later frames may refer to this one, it is decoded
                self.streams.done(stream, decode_s=0.0, good=True)
                continue
            started_s, decode_s = time.monotonic(), None
            try:
                options = stream.synthesis
                image, latent = decoder.decode(packet, options, self.streams.reference(stream, packet))
                if latent is not None:
                    self.streams.hold(stream, packet, latent)
                decode_s = time.monotonic() - started_s
                delay_s = elapsed_s(packet.time_ms, clock_ms())
                stream.history.add(size_bytes=packet.size_bytes, delay_s=delay_s, decode_s=decode_s)
                if passes:
                    steps = min(options.steps, decoder.max_steps)
                    provenance = Provenance.of(
                        packet, self._bundle, steps=steps, seed=options.seed, realism=options.realism
                    )
                    self._on_picture(
                        ReceivedPicture(stream.name, stream.topics, packet, image, steps, decode_s, delay_s, provenance)
                    )
            except EdgesemError as error:
                self._limited_log.warn("frame %d of %s: %s", packet.frame, stream.name, error)
            except Exception:  # a caller's callback, or a defect of ours: the other streams go on
                log.exception("frame %d of %s", packet.frame, stream.name)
            finally:
                good, took_s = decode_s is not None, decode_s or time.monotonic() - started_s
                self.streams.done(stream, decode_s=took_s, good=good)

    def _add_to_archive(self, stream: Stream, packet: Packet) -> None:
        if self._archive is None:
            return
        captured_s = time.time() - elapsed_s(packet.time_ms, clock_ms())
        try:
            self._archive.add(stream.name, packet, captured_s)
        except EdgesemError as error:
            self._limited_log.warn("not archived: %s", error)


def topic_filters(streams: Sequence[str], layers: int) -> list[str]:
    """MQTT topic filters of these `site/device/stream` filters. Raises UsageError if one is none, or for too many."""
    if not 1 <= len(streams) <= _MAX_FILTERS:
        raise UsageError(f"{len(streams)} streams named, 1 to {_MAX_FILTERS} can be: use + for any name")
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
