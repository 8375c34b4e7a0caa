"""All streams of a receiver: takes their messages and hands their frames to the decoders.

MQTT message -> Stream's Inbox -> (reassembly) -> FairScheduler -> decoder thread: next_frame, done
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, Packet
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics
from runtime.receiver.birth_requests import BirthRequests
from runtime.receiver.fair_scheduler import FairScheduler
from runtime.receiver.feedback import Feedback
from runtime.receiver.kept_frames import KeptFrames
from runtime.receiver.options import Limits
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.reference_memory import ReferenceMemory
from runtime.receiver.sender_requests import SenderRequests
from runtime.receiver.skipped_picture import SkippedPicture, SkippedPictures
from runtime.receiver.stream import FreshStart, Stream
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.stream_maker import StreamMaker
from runtime.receiver.stream_table import StreamTable
from runtime.receiver.synthesis import SynthesisOptions

log = logging.getLogger(__name__)

PATIENCE_S = 0.3
"""A frame is decoded without its missing layers when none has come for so long."""

_HAND_OVER_S = 1e-5
"""What a decoder's thread takes to wake up, and to take the interpreter's lock, if we leave that; at least."""


class Streams:
    """All streams of a receiver. Thread-safe; `lock` guards all of it.

    `on_message` is for the network thread and never raises because of what came. `next_frame`, `done`, `refill` and
    `references` are for the decoder threads. `publish(topic, payload, qos)` and `ask_birth(topic)`, which
    subscribes to one birth, may raise LinkError; `leave_birth(topics)` ends that. Outside of the lock, `on_admitted` is
    called with the topics of a stream that is new, and `on_forgotten` with the name of one that had to make room for
    it. `remembered` is what the disk has of sealed streams. With a `stream_filter`, what does not match it is a stray,
    but for what belongs to another shard.
    """

    def __init__(
        self,
        *,
        bundle_ids: Sequence[int],
        publish: Callable[[str, bytes, int], None],
        decoders: int = 1,
        layers: int = MAX_LAYERS,
        synthesis: SynthesisOptions | None = None,
        limits: Limits | None = None,
        promised_store: PromisedStore | None = None,
        key: bytes | None = None,
        patience_s: float = PATIENCE_S,
        references: bool = False,
        on_forgotten: Callable[[str], None] = lambda _: None,
        on_admitted: Callable[[Topics], None] = lambda _: None,
        stream_filter: StreamFilter | None = None,
        remembered: Sequence[FreshStart] = (),
        ask_birth: Callable[[str], None] = lambda _: None,
        leave_birth: Callable[[Topics], None] = lambda _: None,
    ) -> None:
        self.lock = threading.RLock()
        self.synthesis = synthesis or SynthesisOptions()
        """How pictures of a new stream are synthesized."""
        self.strays = 0
        """Messages on topics that belong to no stream, or of streams that there is no room for."""
        self.others_bytes = 0
        """Of a shard: bytes of births and states of streams that other shards take."""
        self.on_ready: Callable[[], None] = lambda: None
        """Called without the lock when a frame waits for a decoder; must not block."""
        self._changed = threading.Condition(self.lock)
        self.skipped = SkippedPictures(self._changed)
        """Newest frames that were decoded without their picture."""
        self.bundle_ids = tuple(bundle_ids)
        """The bundles that frames can be decoded with."""
        self._limits, self._key = limits or Limits(), key
        self._patience_s = patience_s
        self._limited_log = RateLimitedLog(log)
        self._stream_filter = stream_filter
        self._births = BirthRequests(ask_birth, publish, self._limits.streams, leave=leave_birth)
        self._is_named = stream_filter.is_named if stream_filter is not None else lambda _: False
        self._table = StreamTable(self._limits, self._is_named)
        self._on_forgotten, self._on_admitted = on_forgotten, on_admitted
        self._feedback = Feedback(
            publish,
            receiver=1 + secrets.randbelow(2**32 - 1) if references else 0,
            sealed=key is not None,
            limited_log=self._limited_log,
        )
        self._requests = SenderRequests(self._feedback, self.bundle_ids)
        self.references = ReferenceMemory(
            self._limits.reference_bytes,
            lock=self.lock,
            streams=self._table.all,
            feedback=self._feedback,
            requests=self._requests,
        )
        """The latents that inter frames may refer to."""
        self._kept: KeptFrames | None = None
        if promised_store is not None:
            self._kept = KeptFrames(
                promised_store,
                changed=self._changed,
                table=self._table,
                may_wait=self._may_wait,
                queue=self._recover,
                publish_all=self._feedback.publish_all,
            )
        self._maker = StreamMaker(
            bundle_ids=self.bundle_ids,
            key=key,
            layers=layers,
            limits=self._limits,
            acknowledge=self._feedback.ack,
            may_wait=self._may_wait,
            keep=None if self._kept is None else self._kept.keep,
            limited_log=self._limited_log,
            remembered=remembered,
        )
        self._scheduler = FairScheduler(decoders)
        self._incomplete: set[Stream] = set()
        """Streams that may have a frame whose layers have not all come: these alone are looked through."""

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one MQTT message of a `pkt`, `birth` or `state` topic."""
        base, _, rest = topic.rpartition("/pkt/")
        ready, forgotten, admitted = False, None, None
        with self.lock:
            known = self._table.get(base)
            if known is None:  # the slow way, which checks all of the topic
                try:
                    topics, rest = Topics.parse(topic)
                except PacketError as error:
                    self._count_stray("dropped a message on a topic that belongs to no stream: %s", error)
                    return
                if self._stream_filter is not None and not self._stream_filter.matches(topics):
                    if self._stream_filter.is_of_another_shard(topics):
                        self.others_bytes += len(payload)
                        return
                    self._count_stray("dropped a message that was not subscribed to, of %s", topics.base)
                    return
                known = self._table.get(topics.base)
                if known is None and not self._table.has_room(topics):
                    self._count_stray("no room for the stream %s: it is one too many", topics.base)
                    return
                stream = known or self._maker.make(topics, self.synthesis)
                kind = rest.partition("/")[0]
            else:
                stream, kind = known, "pkt"
            if stream.take(
                kind, topic, payload, key=self._key, bundle_ids=self.bundle_ids, limited_log=self._limited_log
            ):
                stream.heard_s = time.monotonic()
                if known is None:
                    forgotten, admitted = self._admit(stream), stream.topics
                    log.info("receiving %s", stream.name)
                if kind == "pkt":
                    self._requests.after_packet(stream)
                    self._incomplete.add(stream)
                ready = stream.inbox.waiting > 0
                if ready:
                    self._changed.notify()
            elif known is None:
                self.strays += 1
            dark = kind != "birth" and stream.birth is None
            told = kind != "pkt" and (known is not None or admitted is not None)
        self._tell(admitted, forgotten)  # of one shard, it is subscribed to before anything is asked
        if told:
            with self.lock:
                self._requests.after_news(stream)
        if dark:
            self._births.ask(stream.topics)
        if ready:
            self.on_ready()
            time.sleep(_HAND_OVER_S)  # the frame shall not wait for its own acknowledgement
        self._feedback.publish_all()

    def next_frame(self, timeout_s: float) -> tuple[Stream, Packet | SkippedPicture] | None:
        """Wait for what to decode next, and mark its stream as busy; None if there is nothing in time."""
        deadline_s = time.monotonic() + timeout_s
        with self.lock:
            while True:
                now_s = time.monotonic()
                look_s = self._release_incomplete(now_s)
                stream = self._scheduler.next(self._table.all())
                if stream is not None:
                    frame = stream.inbox.pop()
                    assert frame is not None
                    return stream, frame
                if now_s >= deadline_s:
                    return None
                self._changed.wait(min(look_s, deadline_s) - now_s)

    def done(self, stream: Stream, *, decode_s: float, good: bool) -> None:
        """A decoder has finished with a frame of `stream`, after `decode_s` seconds; `good`: it could be decoded."""
        with self.lock:
            self._scheduler.done(stream, decode_s)
            stream.inbox.decode_ms = min(int(decode_s * 1000), 0xFFFFFFFF)
            if good:
                stream.pictures += 1
            else:
                stream.inbox.counters.undecodable += 1
            self._changed.notify()

    def done_skipped(self, stream: Stream, skipped: SkippedPicture, *, decode_s: float, drawn: bool) -> None:
        """A decoder has finished with a picture that was skipped; its frame was counted before."""
        with self.lock:
            self._scheduler.done(stream, decode_s)
            self.skipped.done(stream, skipped, drawn=drawn)
            self._changed.notify()

    def flush(self) -> None:
        """Release all incomplete frames to the decoders: no more messages will come."""
        with self.lock:
            for stream in self._table.all():
                stream.inbox.flush()
            self._changed.notify_all()

    def refill(self) -> None:
        """Queue kept frames that still have no picture, from the disk; called without the lock."""
        if self._kept is not None:
            self._kept.refill()

    def mark_drawn(self, stream: Stream, packet: Packet) -> None:
        """Note on the disk that a kept frame has got its picture."""
        if self._kept is not None:
            self._kept.mark_drawn(stream.topics, packet)

    def has_ready(self) -> bool:
        """Whether a frame waits for a decoder that may have it now."""
        with self.lock:
            return self._scheduler.has_ready(self._table.all())

    def fresh_starts(self) -> list[FreshStart]:
        """What is new of sealed streams since the last call, for the disk."""
        with self.lock:
            return self._maker.fresh_starts(self._table.all())

    def all(self) -> list[Stream]:
        """Every stream heard, by name."""
        with self.lock:
            return sorted(self._table.all(), key=lambda stream: stream.name)

    def find(self, name: str) -> Stream | None:
        """The stream called `site/device/stream`, or None."""
        with self.lock:
            return self._table.get(f"edgesem/v1/{name}")

    def set_synthesis(self, stream: Stream, *, steps: int | None = None, realism: float | None = None) -> None:
        """Change how a stream's next pictures are synthesized. Raises UsageError for a value out of range."""
        with self.lock:
            stream.set_synthesis(steps, realism)

    def _may_wait(self) -> bool:
        """Whether promised frames may be taken into memory beside those that wait there already, of all streams."""
        return sum(one.inbox.queue.promised_bytes for one in self._table.all()) < self._limits.promised_bytes

    def _recover(self, topics: Topics, packets: list[Packet]) -> None:
        """Queue kept frames; those of a bundle that is not here are left for `edgesem decode`."""
        forgotten, admitted = None, None
        with self.lock:
            stream = self._table.get(topics.base)
            if stream is None:
                stream = self._maker.make(topics, self.synthesis)
                stream.heard_s = float("-inf")  # it gives way to one that is heard
                forgotten, admitted = self._admit(stream), topics
            for packet in packets:
                if packet.bundle_id in self.bundle_ids:
                    stream.inbox.queue.add_promised(packet)
            self._changed.notify_all()
        self._tell(admitted, forgotten)

    def _admit(self, stream: Stream) -> str | None:
        forgotten = self._table.admit(stream)
        self._scheduler.forget_others(self._table.all())
        return forgotten

    def _tell(self, admitted: Topics | None, forgotten: str | None) -> None:
        """Call `on_forgotten` and `on_admitted`: a video may be closed, which takes its time, so without the lock."""
        try:
            if forgotten is not None:
                self._on_forgotten(forgotten)
            if admitted is not None:
                self._on_admitted(admitted)
        except Exception:  # a caller's: the network thread goes on
            log.exception("%s was forgotten, %s is new", forgotten, admitted)

    def _release_incomplete(self, now_s: float) -> float:
        """Release frames whose missing layers have not come in time; returns when to look again."""
        look_s = now_s + self._patience_s  # what comes from here on cannot be due before: it need not wake anybody
        for stream in list(self._incomplete):
            due_s = stream.inbox.release_incomplete(now_s, self._patience_s)
            if due_s is None:
                self._incomplete.remove(stream)
            else:
                look_s = min(look_s, due_s)
        return look_s

    def _count_stray(self, message: str, *details: object) -> None:
        self.strays += 1
        self._limited_log.warn(message, *details)
