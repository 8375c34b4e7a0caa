"""Receiver of streams: subscribes to senders, decodes their frames in processes of their own, hands out the pictures.

with StreamReceiver(Address("127.0.0.1", 1883), "home/+/+") as receiver:
    for picture in receiver:
        print(picture.stream, picture.packet.frame, picture.image.shape, f"{picture.delay_s:.2f} s")
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgesem.errors import LinkError, UsageError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_pool import DecoderPool
from runtime.receiver.frame_drawer import FrameDrawer, OnDemand
from runtime.receiver.options import ReceiverOptions
from runtime.receiver.processors import allowed_processors
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.received_picture import PictureHandOver, ReceivedPicture
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.receiver.shard_subscriptions import ShardMemory, ShardSubscriptions
from runtime.receiver.stream import Stream
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.streams import Streams
from runtime.receiver.viewing import Viewing

if TYPE_CHECKING:
    from runtime.receiver.archive import Archive

log = logging.getLogger(__name__)

_LAST_S = 5.0


class StreamReceiver:
    """Receiver of one or more streams. Use it as a context manager, or as one of `async with`.

    Pictures are taken by `for picture in receiver`, `async for picture in receiver`, or `on_picture`. The loops end
    when the receiver is stopped. A picture that nobody takes holds up the decoders, and meanwhile newer frames replace
    those that wait. `on_picture` is called on the decoder threads, for one stream in order, for several at the same
    time; what it raises is logged, and a promised frame for which it raises is given to it again at the next start.

    `address` is the broker's, or those of several nodes of a cluster. `streams` are filters `site/device/stream` in
    which `+` stands for any name. `bundle` is the folder of the senders' bundle, by default the one that ships, or
    several folders: each packet is drawn with the one that it was made with (in a list, None is the one that ships).
    With a `key` (32 bytes), packets that are not sealed by it are refused. Promised frames are kept in `folder`:
    without one, none is acknowledged as kept. `state_folder` has the newest birth and frame of each sealed stream:
    without one, a receiver that starts anew shows recorded packets as new. `archive` takes every packet whose turn has
    come; `semantic_filter` says which frames become pictures; with `on_demand`, those that it does not need are not
    drawn. `on_stream_forgotten` is called with the name of a silent stream that had to make room for another; it must
    not block. `other_topics` are more topics to subscribe to, with what takes their messages, on the network thread;
    `will` is what the broker publishes for us, retained, once the connection is lost.

    All methods may be called from any thread while the receiver is entered; a lost connection is made anew. Raises
    UsageError for a filter that is none; entering raises BundleError if a bundle cannot be used, UsageError if none can
    do the steps asked for or two have one id, and LinkError if a decoder does not start.
    """

    def __init__(
        self,
        address: Address | Sequence[Address],
        streams: str | Sequence[str] = "+/+/+",
        options: ReceiverOptions | None = None,
        *,
        bundle: Path | Sequence[Path | None] | None = None,
        folder: Path | None = None,
        key: bytes | None = None,
        on_picture: Callable[[ReceivedPicture], None] | None = None,
        on_stream_forgotten: Callable[[str], None] = lambda _: None,
        archive: Archive | None = None,
        semantic_filter: SemanticFilter | None = None,
        state_folder: Path | None = None,
        other_topics: Mapping[str, Callable[[bytes], None]] | None = None,
        will: tuple[str, bytes] | None = None,
        on_up: Callable[[], None] = lambda: None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self.options = options or ReceiverOptions()
        self.max_steps = 0
        """Most steps of the flow decoder that a bundle can do; known once the receiver is entered."""
        self.streams: Streams
        """The streams heard, with state, counters and history; there once the receiver is entered."""
        self.connection: Connection
        """The connection to the broker; there once the receiver is entered."""
        self.viewing: Viewing
        """Who watches which stream, which senders on demand are told; there once the receiver is entered."""
        self._filter = StreamFilter(
            [streams] if isinstance(streams, str) else streams, self.options.layers, self.options.shard
        )
        self._address, self._folder, self._key = address, folder, key
        self._bundle_folders = [bundle] if bundle is None or isinstance(bundle, Path) else list(bundle)
        self._archive, self._semantic_filter = archive, semantic_filter
        self._on_stream_forgotten = on_stream_forgotten
        self._state_folder, self._other_topics, self._will = state_folder, dict(other_topics or {}), will
        self._on_up, self._on_demand = on_up, on_demand
        memory = None
        if self._filter.sharded and state_folder is not None:
            memory = ShardMemory(state_folder, self.options.limits.streams)
        self._subscriptions = ShardSubscriptions(self._filter, lambda: self.connection, memory)
        self._store: PromisedStore | None = None
        self._pool: DecoderPool
        self._hand_over = PictureHandOver()
        self._iterable = on_picture is None
        self._on_picture = on_picture or self._hand_over.put
        self._stop = threading.Event()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StreamReceiver:
        options = self.options
        with contextlib.ExitStack() as stack:
            most = options.decoders or allowed_processors()
            bundles = BundleSet(self._bundle_folders)
            self._pool = pool = stack.enter_context(DecoderPool(bundles.folders, most=most))
            self.max_steps = bundles.max_steps()
            if options.synthesis.steps > self.max_steps:
                raise UsageError(
                    f"steps is {options.synthesis.steps}, but the bundle has no flow decoder: leave it at 0, "
                    "or name a bundle that has one"
                )
            if self._folder is not None:
                # Who seals is known; others must be named to get more than their share of the disk.
                is_reserved = self._filter.is_named if self._key is None else lambda _: True
                self._store = stack.enter_context(PromisedStore(self._folder, is_reserved=is_reserved))
            freshness = None
            if self._state_folder is not None and self._key is not None:
                from runtime.receiver.freshness_store import FreshnessStore

                freshness = stack.enter_context(FreshnessStore(self._state_folder))
            self.streams = Streams(
                bundle_ids=bundles.ids,
                publish=lambda topic, payload, qos: self.connection.publish(topic, payload, qos=qos, early=True),
                decoders=most,
                layers=options.layers,
                synthesis=options.synthesis,
                limits=options.limits,
                promised_store=self._store,
                key=self._key,
                references=bundles.has_reference,
                on_forgotten=self._forgotten,
                on_admitted=self._subscriptions.admitted,
                stream_filter=self._filter,
                remembered=[] if freshness is None else freshness.load(),
                ask_birth=lambda topic: self.connection.subscribe(topic),
                leave_birth=self._subscriptions.leave_birth,
            )
            self.connection = Connection(
                self._address,
                name="receiver",
                subscribe=[*self._subscriptions.topics, *self._other_topics],
                on_message=self._take,
                on_up=self._up,
                on_down=self._subscriptions.down,
                will=self._will,
                retry=True,
            )
            drawer = FrameDrawer(
                self.streams, bundles, self._on_picture, self._archive, self._semantic_filter, self._on_demand
            )
            pool.begin(self.streams, drawer.draw)
            if freshness is not None:
                freshness.begin(self.streams.fresh_starts)
            stack.callback(self.stop)
            stack.callback(self._subscriptions.save)
            stack.enter_context(self.connection)
            self.viewing = Viewing(self.streams.all, self.command, mode=self.options.view)
            stack.callback(self.viewing.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def __aenter__(self) -> StreamReceiver:
        import asyncio

        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        import asyncio

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
        if (picture := await self._hand_over.get_async()) is None:
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

    def asks_for(self, topics: Topics) -> bool:
        """Whether it was asked for a stream, whichever shard takes that."""
        return self._filter.asks_for(topics)

    @property
    def decoders(self) -> int:
        """Number of decoder processes at present."""
        return self._pool.size

    @property
    def trouble(self) -> str:
        """Which part of the receiver was ended by a defect, which is in the log; empty if none was."""
        if not self._pool.alive:
            return "a decoder's thread has ended"
        if self._store is not None and not self._store.alive:
            return "the thread that keeps promised frames has ended"
        if not self.connection.alive:
            return "the connection's thread has ended"
        return ""

    @property
    def stalled_s(self) -> float:
        """For how many seconds the slowest part of the receiver was not seen to work."""
        return max(self._pool.stalled_s, 0.0 if self._store is None else self._store.stalled_s)

    def command(self, stream: Stream, command: Command) -> None:
        """Ask the sender of a stream for something.

        Raises LinkError if there is no connection now, or if the sender is gone or silent for too long;
        UsageError if no birth of the stream has come that our key has made.
        """
        if stream.absence:
            raise LinkError(f"{stream.name} cannot be asked: {stream.absence}; start it, or ask again when it is back")
        topic = stream.topics.cmd
        self.connection.publish(topic, self._signed(stream, topic, command.to_bytes()))

    def draw_newest(self, name: str) -> bool:
        """Have the picture of a stream's newest frame drawn, if it was skipped: it comes by `on_demand.show`.

        Returns at once: whether it is on its way.
        """
        stream = self.streams.find(name)
        if stream is None or not self.streams.skipped.draw(stream):
            return False
        self.streams.on_ready()
        return True

    def acknowledge_kept(self, picture: ReceivedPicture) -> None:
        """The caller has written a promised picture to a disk itself: its sender need not keep it any more.

        Waits until the broker has that, 5 s at most. Raises LinkError if there is no connection now.
        """
        stream, packet = self.streams.find(picture.stream), picture.packet
        if stream is not None and packet.promised:
            topic, ack = stream.topics.ack, Ack(packet.epoch, packet.frame, 0, clock_ms(), 0, kept=1)
            confirmed = threading.Event()
            self.connection.publish(topic, self._signed(stream, topic, ack.to_bytes()), confirm=confirmed.set)
            confirmed.wait(_LAST_S)

    def forget_promised(self, path: Path, size_bytes: int) -> None:
        """The caller has deleted a file of a promised frame below `folder`, of so many bytes."""
        if self._store is not None:
            self._store.forget(path, size_bytes)

    def _signed(self, stream: Stream, topic: str, payload: bytes) -> bytes:
        if self._key is None:
            return payload
        # Before its birth has come, a seal that the disk remembers may be of an earlier start.
        seal = stream.inbox.seals.for_commands if stream.birth is not None else stream.inbox.seal
        if seal is None:
            raise UsageError(f"{stream.name} has no birth yet that our key has made: its commands are signed")
        return seal.sign(payload, topic)

    def _check_iterable(self) -> None:
        if not self._iterable:
            raise UsageError("this receiver gives its pictures to on_picture: leave that out to iterate over them")

    def _up(self) -> None:
        self._subscriptions.up()
        self._on_up()

    def _forgotten(self, name: str) -> None:
        self._subscriptions.forgotten(name)
        self._on_stream_forgotten(name)

    def _take(self, topic: str, payload: bytes) -> None:
        """Take a message; on the network thread."""
        self._subscriptions.heard()
        take = self._other_topics.get(topic)
        if take is None:
            self.streams.on_message(topic, payload)
            return
        try:
            take(payload)
        except Exception:  # a caller's: messages go on
            log.exception("a message on %s", topic)
