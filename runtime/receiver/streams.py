"""All streams of a receiver: takes their messages and hands their frames to the decoders.

MQTT message -> Stream's Inbox -> (reassembly) -> FairScheduler -> decoder thread: next_frame, reference, hold, done
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from edgesem.codec.latent import Latent
from edgesem.errors import MissingReference, PacketError
from edgesem.packet.packet import MAX_LAYERS, Packet
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import APART_S, Command
from runtime.protocol.topics import Topics
from runtime.receiver.fair_scheduler import FairScheduler, yield_processor
from runtime.receiver.feedback import Feedback
from runtime.receiver.inbox import Inbox
from runtime.receiver.options import Limits
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.stream import Stream
from runtime.receiver.stream_table import StreamTable
from runtime.receiver.synthesis import SynthesisOptions

log = logging.getLogger(__name__)

PATIENCE_S = 0.3
"""A frame is decoded without its missing layers when none has come for so long."""
_ASK_KEY_EVERY_S = 1.0
_ASK_APART_EVERY_S = APART_S / 3


class Streams:
    """All streams of a receiver. Thread-safe; `lock` guards all of it.

    `on_message` is for the network thread and never raises because of what came. `next_frame`, `reference`, `hold` and
    `done` are for the decoder threads. `publish(topic, payload, qos)` may raise LinkError. `on_forgotten` is called,
    under the lock, with the name of a stream that had to make room for another.
    """

    def __init__(
        self,
        *,
        bundle_id: int,
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
    ) -> None:
        self.lock = threading.RLock()
        self.synthesis = synthesis or SynthesisOptions()
        """How pictures of a new stream are synthesized."""
        self.strays = 0
        """Messages on topics that belong to no stream, or of streams that there is no room for."""
        self._changed = threading.Condition(self.lock)
        self._bundle_id, self._layers = bundle_id, layers
        self._limits, self._promised_store, self._key = limits or Limits(), promised_store, key
        self._patience_s = patience_s
        self._limited_log = RateLimitedLog(log)
        self._table = StreamTable(self._limits, on_forgotten)
        self._scheduler = FairScheduler(decoders)
        self._feedback = Feedback(
            publish,
            receiver=1 + secrets.randbelow(2**32 - 1) if references else 0,
            sealed=key is not None,
            limited_log=self._limited_log,
        )

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one MQTT message of a `pkt`, `birth` or `state` topic."""
        base, _, rest = topic.rpartition("/pkt/")
        ready = False
        with self.lock:
            known = self._table.get(base)
            if known is None:  # the slow way, which checks all of the topic
                try:
                    topics, rest = Topics.parse(topic)
                except PacketError as error:
                    self._count_stray("dropped a message on a topic that belongs to no stream: %s", error)
                    return
                known = self._table.get(topics.base)
                if known is None and not self._table.has_room(topics):
                    self._count_stray("no room for the stream %s: it is one too many", topics.base)
                    return
                stream = known or self._new_stream(topics)
                kind = rest.partition("/")[0]
            else:
                stream, kind = known, "pkt"
            if self._take(stream, kind, topic, payload):
                stream.heard_s = time.monotonic()
                if known is None:
                    self._admit(stream)
                    log.info("receiving %s", stream.name)
                if stream.inbox.more_than_asked and stream.heard_s - stream.asked_apart_s >= _ASK_APART_EVERY_S:
                    stream.asked_apart_s = stream.heard_s
                    self._ask(stream, Command("apart"))
                ready = stream.inbox.waiting > 0
                if ready:
                    self._changed.notify()
            elif known is None:
                self.strays += 1
        if ready:
            yield_processor()  # where there are few cores, the frame shall not wait for its own acknowledgement
        self._feedback.publish_all()

    def next_frame(self, timeout_s: float) -> tuple[Stream, Packet] | None:
        """Wait for the frame to decode next, and mark its stream as busy; None if there is none in time."""
        deadline_s = time.monotonic() + timeout_s
        with self.lock:
            while True:
                now_s = time.monotonic()
                look_s = self._release_incomplete(now_s)
                stream = self._scheduler.next(self._table.all())
                if stream is not None:
                    packet = stream.inbox.pop()
                    assert packet is not None
                    return stream, packet
                if now_s >= deadline_s:
                    return None
                self._changed.wait(min(look_s, deadline_s) - now_s)

    def reference(self, stream: Stream, packet: Packet) -> Latent | None:
        """The latent that an inter frame refers to; None for a keyframe.

        Raises MissingReference if it is not here, and asks the sender for a keyframe, once a second at most.
        """
        named = packet.side_info.reference
        if named is None:
            return None
        with self.lock:
            latent = stream.references.get(packet.epoch, named.frame, named.layers)
            if latent is not None:
                return latent
            stream.inbox.counters.missing_reference += 1
            now_s = time.monotonic()
            if self._feedback.receiver and now_s - stream.asked_key_s >= _ASK_KEY_EVERY_S:
                stream.asked_key_s = now_s
                self._ask(stream, Command("key"))
        self._feedback.publish_all()
        raise MissingReference(f"refers to frame {named.frame}, which is not here: asked its sender for a keyframe")

    def hold(self, stream: Stream, packet: Packet, latent: Latent) -> None:
        """Hold the latent of a decoded frame, so that later ones may refer to it, and tell the sender."""
        if not self._feedback.receiver or packet.promised:
            return
        layers = len(packet.chunks)
        with self.lock:
            stream.references.put(packet.epoch, packet.frame, layers, latent)
            ack = Ack(packet.epoch, packet.frame, layers - 1, clock_ms(), stream.inbox.decode_ms, held=layers)
            self._acknowledge(stream.topics, ack)
        self._feedback.publish_all()

    def done(self, stream: Stream, *, decode_s: float, good: bool) -> None:
        """A decoder has finished with a frame of `stream`, after `decode_s` seconds; `good`: there is a picture."""
        with self.lock:
            self._scheduler.done(stream, decode_s)
            stream.inbox.decode_ms = min(int(decode_s * 1000), 0xFFFFFFFF)
            if good:
                stream.pictures += 1
            else:
                stream.inbox.counters.undecodable += 1
            self._changed.notify()

    def flush(self) -> None:
        """Release all incomplete frames to the decoders: no more messages will come."""
        with self.lock:
            for stream in self._table.all():
                stream.inbox.flush()
            self._changed.notify_all()

    def recover(self) -> None:
        """Queue the promised frames that an earlier run has kept and not decoded."""
        if self._promised_store is None:
            return
        for topics, packet in self._promised_store.without_picture():
            with self.lock:
                known = self._table.get(topics.base)
                if packet.bundle_id != self._bundle_id or (known is None and not self._table.has_room(topics)):
                    continue
                stream = known or self._new_stream(topics)
                if known is None:
                    self._admit(stream)
                stream.inbox.recover(packet)
                self._changed.notify_all()

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
            options = stream.synthesis
            if steps is not None:
                options = replace(options, steps=steps)
            if realism is not None:
                options = replace(options, realism=realism)
            stream.synthesis = options

    def _new_stream(self, topics: Topics) -> Stream:
        """A stream that is not in the table before its first good message."""
        promised_store = self._promised_store

        def keep(packet: Packet, settle: Callable[[bool, bool], None]) -> None:
            def settled(safe: bool, new: bool) -> None:
                with self.lock:
                    settle(safe, new)
                    self._changed.notify()
                self._feedback.publish_all()

            assert promised_store is not None
            promised_store.put(topics, packet, settled)

        inbox = Inbox(
            topics=topics,
            bundle_id=self._bundle_id,
            acknowledge=lambda ack: self._acknowledge(topics, ack),
            keep=None if promised_store is None else keep,
            sealed=self._key is not None,
            layers=self._layers,
            backlog=self._limits.backlog,
            max_pixels=self._limits.max_pixels,
            limited_log=self._limited_log,
        )
        return Stream(topics, inbox, self.synthesis)

    def _admit(self, stream: Stream) -> None:
        self._table.admit(stream)
        self._scheduler.forget_others(self._table.all())

    def _take(self, stream: Stream, kind: str, topic: str, payload: bytes) -> bool:
        """Have a stream take a message; whether it was good."""
        if kind == "pkt":
            return stream.inbox.take(topic, payload)
        if kind not in ("birth", "state"):
            return False
        try:
            if kind == "state":
                stream.take_state(payload)
            else:
                log_, bundle_id = self._limited_log, self._bundle_id
                stream.take_birth(payload, key=self._key, bundle_id=bundle_id, limited_log=log_)
        except PacketError as error:
            stream.inbox.counters.malformed += 1
            self._limited_log.warn("dropped the %s of %s: %s", kind, stream.name, error)
            return False
        return True

    def _acknowledge(self, topics: Topics, ack: Ack) -> None:
        """Queue an acknowledgement; `publish_all` sends it outside of the lock."""
        stream = self._table.get(topics.base)
        self._feedback.ack(topics, None if stream is None else stream.inbox.seal, ack)

    def _ask(self, stream: Stream, command: Command) -> None:
        """Queue a command to a stream's sender; `publish_all` sends it outside of the lock."""
        self._feedback.command(stream.topics, stream.inbox.seal, command)

    def _release_incomplete(self, now_s: float) -> float:
        """Release frames whose missing layers have not come in time; returns when to look again."""
        look_s = now_s + self._patience_s  # what comes from here on cannot be due before: it need not wake anybody
        for stream in self._table.all():
            due_s = stream.inbox.release_incomplete(now_s, self._patience_s)
            look_s = min(look_s, due_s or look_s)
        return look_s

    def _count_stray(self, message: str, *details: object) -> None:
        self.strays += 1
        self._limited_log.warn(message, *details)
