"""All streams that a receiver hears: takes their messages, and has their frames for the decoders."""

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
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import APART_S, Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.decoder_process import Drawing
from runtime.receiver.fair_scheduler import FairScheduler, yield_processor
from runtime.receiver.feedback import Feedback
from runtime.receiver.inbox import Inbox
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.stream import Limits, Stream

log = logging.getLogger(__name__)

_FORGET_S = 600.0
_ASK_EVERY_S = 1.0
_APART_EVERY_S = APART_S / 3


class Streams:
    """Takes the messages of all streams and says what to decode next.

    `on_message` never raises because of what came. `next_frame` and `done` are for the decoders' threads.
    `publish(topic, payload, qos)` may raise LinkError. `changed` is notified when a frame may have become ready.
    `on_forgotten` is told the name of a stream that had to make room for another.
    """

    def __init__(
        self,
        *,
        bundle_id: int,
        publish: Callable[[str, bytes, int], None],
        decoders: int = 1,
        layers: int = MAX_LAYERS,
        drawing: Drawing | None = None,
        limits: Limits | None = None,
        promised_store: PromisedStore | None = None,
        key: bytes | None = None,
        patience_s: float = 0.3,
        references: bool = False,
        on_forgotten: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.lock = threading.RLock()
        self.drawing = drawing or Drawing()
        self.strays = 0
        """Messages on topics that are no stream's, or of streams that there is no room for."""
        self._changed = threading.Condition(self.lock)
        self._streams: dict[str, Stream] = {}
        self._bundle_id, self._layers = bundle_id, layers
        self._limits, self._promised_store, self._key = limits or Limits(), promised_store, key
        self._patience_s, self._on_forgotten = patience_s, on_forgotten
        self._limited_log = RateLimitedLog(log)
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
            known = self._streams.get(base)
            if known is None:  # the slow way, which checks all of the topic
                try:
                    topics, rest = Topics.parse(topic)
                except PacketError as error:
                    self._stray("dropped a message on a topic that is no stream's: %s", error)
                    return
                base, known = topics.base, self._streams.get(topics.base)
                stream = known or self._open(topics)
                if stream is None:
                    self._stray("no room for the stream %s: it is one too many", topics.base)
                    return
                kind = rest.partition("/")[0]
            else:
                stream, kind = known, "pkt"
            if kind == "pkt":
                good = stream.inbox.take(topic, payload)
            elif kind in ("birth", "state"):
                good = self._learn(stream, kind, payload)
            else:
                good = False
            if good:
                stream.heard_s = time.monotonic()
                if known is None:
                    self._admit(stream)
                    log.info("hear %s", stream.name)
                if stream.inbox.more_than_asked and stream.heard_s - stream.asked_apart_s >= _APART_EVERY_S:
                    stream.asked_apart_s = stream.heard_s
                    self._ask(stream, Command("apart"))
                ready = stream.inbox.waiting > 0
                if ready:
                    self._changed.notify()
            elif known is None:
                self.strays += 1
        if ready:
            yield_processor()  # where there are few cores, the frame shall not wait for its own acknowledgement
        self._feedback.say()

    def next_frame(self, timeout_s: float) -> tuple[Stream, Packet] | None:
        """The frame to decode next, by the device that has had the least; None if there is none in time."""
        deadline_s = time.monotonic() + timeout_s
        with self.lock:
            while True:
                now_s = time.monotonic()
                look_s = self._look(now_s)
                stream = self._scheduler.next(self._streams.values())
                if stream is not None:
                    packet = stream.inbox.pop()
                    assert packet is not None
                    return stream, packet
                if now_s >= deadline_s:
                    return None
                self._changed.wait(min(look_s, deadline_s) - now_s)

    def done(self, stream: Stream, *, decode_s: float, good: bool) -> None:
        """A decoder has finished with a frame of `stream`."""
        with self.lock:
            self._scheduler.done(stream, decode_s)
            stream.inbox.decode_ms = min(int(decode_s * 1000), 0xFFFFFFFF)
            if good:
                stream.pictures += 1
            else:
                stream.inbox.counters.undecodable += 1
            self._changed.notify()

    def reference(self, stream: Stream, packet: Packet) -> Latent | None:
        """What a packet refers to, None for a keyframe. MissingReference, and a word to its sender, if it is gone."""
        named = packet.side_info.reference
        if named is None:
            return None
        with self.lock:
            latent = stream.references.get(packet.epoch, named.frame, named.layers)
            if latent is not None:
                return latent
            stream.inbox.counters.missing_reference += 1
            now_s = time.monotonic()
            ask = self._feedback.receiver and now_s - stream.asked_key_s >= _ASK_EVERY_S
            if ask:
                stream.asked_key_s = now_s
                self._ask(stream, Command("key"))
        self._feedback.say()
        raise MissingReference(f"refers to frame {named.frame}, which is not here: asked its sender for a keyframe")

    def hold(self, stream: Stream, packet: Packet, latent: Latent) -> None:
        """A frame was decoded: hold what later packets may refer to, and tell its sender."""
        if not self._feedback.receiver or packet.promised:
            return
        layers = len(packet.chunks)
        with self.lock:
            stream.references.put(packet.epoch, packet.frame, layers, latent)
            ack = Ack(packet.epoch, packet.frame, layers - 1, clock_ms(), stream.inbox.decode_ms, held=layers)
            self._acknowledge(stream.topics, ack)
        self._feedback.say()

    def flush(self) -> None:
        """No more messages will come: the frames under way are ready as they are."""
        with self.lock:
            for stream in self._streams.values():
                stream.inbox.flush()
            self._changed.notify_all()

    def recover(self) -> None:
        """Take up the promised frames that an earlier run kept and did not draw."""
        if self._promised_store is None:
            return
        for topics, packet in self._promised_store.without_picture():
            with self.lock:
                known = self._streams.get(topics.base)
                stream = known or self._open(topics)
                if stream is not None and packet.bundle_id == self._bundle_id:
                    if known is None:
                        self._admit(stream)
                    stream.inbox.recover(packet)
                    self._changed.notify_all()

    def all(self) -> list[Stream]:
        """Every stream heard, by name."""
        with self.lock:
            return sorted(self._streams.values(), key=lambda stream: stream.name)

    def find(self, name: str) -> Stream | None:
        """The stream called `site/device/stream`."""
        with self.lock:
            return self._streams.get(f"edgesem/v1/{name}")

    def draw(self, stream: Stream, *, steps: int | None = None, realism: float | None = None) -> None:
        """Draw a stream's next pictures otherwise. UsageError if that cannot be."""
        with self.lock:
            drawing = stream.drawing
            if steps is not None:
                drawing = replace(drawing, steps=steps)
            if realism is not None:
                drawing = replace(drawing, realism=realism)
            stream.drawing = drawing

    def _open(self, topics: Topics) -> Stream | None:
        """A new stream, which is not among ours before its first good message; None if there is no room."""
        silent = self._in_the_way(topics)
        if silent is not None and (silent.busy or time.monotonic() - silent.heard_s < _FORGET_S):
            return None
        promised_store, inbox = self._promised_store, None

        def acknowledge(ack: Ack) -> None:
            self._acknowledge(topics, ack)

        def keep(packet: Packet, settle: Callable[[bool, bool], None]) -> None:
            def settled(safe: bool, new: bool) -> None:
                with self.lock:
                    settle(safe, new)
                    self._changed.notify()
                self._feedback.say()

            assert promised_store is not None
            promised_store.put(topics, packet, settled)

        inbox = Inbox(
            topics=topics,
            bundle_id=self._bundle_id,
            acknowledge=acknowledge,
            keep=None if promised_store is None else keep,
            sealed=self._key is not None,
            layers=self._layers,
            backlog=self._limits.backlog,
            max_pixels=self._limits.max_pixels,
            limited_log=self._limited_log,
        )
        return Stream(topics, inbox, self.drawing)

    def _in_the_way(self, topics: Topics) -> Stream | None:
        """The stream that has to go if another is let in, the one that was silent longest; None if there is room."""
        mine = [one for one in self._streams.values() if one.device == (topics.site, topics.device)]
        full = len(mine) >= self._limits.streams_per_device
        if not full and len(self._streams) < self._limits.streams:
            return None
        return min(mine if full else self._streams.values(), key=lambda one: one.heard_s)

    def _admit(self, stream: Stream) -> None:
        """Let a new stream in that has proven to be one."""
        silent = self._in_the_way(stream.topics)
        if silent is not None:
            del self._streams[silent.topics.base]
            self._scheduler.forget(self._streams.values())
            self._on_forgotten(silent.name)
        self._streams[stream.topics.base] = stream

    def _learn(self, stream: Stream, kind: str, payload: bytes) -> bool:
        """Take a birth or a state."""
        try:
            if kind == "state":
                stream.state = State.from_bytes(payload)
                stream.history.add_state(stream.state)
            else:
                self._greet(stream, Birth.from_bytes(payload, base=stream.topics.base))
        except PacketError as error:
            stream.inbox.counters.malformed += 1
            self._limited_log.warn("dropped the %s of %s: %s", kind, stream.name, error)
            return False
        return True

    def _greet(self, stream: Stream, birth: Birth) -> None:
        """A sender has come to life: open its packets with its salt, unless somebody plays back an old birth."""
        before = stream.birth
        if before is not None:
            if birth.public_key != before.public_key:
                self._limited_log.warn(
                    "%s has another key than before: another device, or somebody who plays its part", stream.name
                )
            elif birth.time_ms < before.time_ms:
                raise PacketError("it is older than the one before: recorded and sent again")
            elif birth == before:
                return
        if self._key is not None:
            if not birth.sealed:
                raise PacketError("its packets are not sealed, and this receiver has a key: refused")
            stream.inbox.offer(Seal(self._key, stream=stream.topics.base, salt=birth.salt))
        stream.birth = birth
        if birth.bundle_id != self._bundle_id:
            self._limited_log.warn(
                "%s sends with bundle %04x, this receiver has %04x: name its bundle with --bundle",
                stream.name,
                birth.bundle_id,
                self._bundle_id,
            )

    def _acknowledge(self, topics: Topics, ack: Ack) -> None:
        """Have this said by `_replies.say`. Under the lock."""
        stream = self._streams.get(topics.base)
        self._feedback.ack(topics, None if stream is None else stream.inbox.seal, ack)

    def _ask(self, stream: Stream, command: Command) -> None:
        """Have this said by `_replies.say`. Under the lock."""
        self._feedback.command(stream.topics, stream.inbox.seal, command)

    def _look(self, now_s: float) -> float:
        """Let frames wait that had their time to become complete; when to look again."""
        look_s = now_s + self._patience_s  # what comes from here on cannot be due before: it need not wake anybody
        for stream in self._streams.values():
            due_s = stream.inbox.look(now_s, self._patience_s)
            look_s = min(look_s, due_s or look_s)
        return look_s

    def _stray(self, message: str, *details: object) -> None:
        self.strays += 1
        self._limited_log.warn(message, *details)
