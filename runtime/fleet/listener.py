"""Listener to a fleet: what all its senders and receivers say within some seconds, without any picture."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgesem.errors import PacketError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.state import State
from runtime.protocol.topics import Topics

_MOST_STREAMS = 100_000
_MAX_EVENT_BYTES = 4096
_LONGEST_LABEL = 100
_MOST_ACKS = 50
"""Of one stream, of which the decoding times are kept."""


@dataclass(frozen=True)
class HeardEvent:
    """An event that a receiver has gathered, as it said on the stream's `event` topic."""

    time_ms: int
    """When it began: Unix milliseconds."""
    cause: str
    label: str

    @classmethod
    def from_bytes(cls, payload: bytes) -> HeardEvent:
        """Read the message. PacketError for what is none."""
        try:
            tree: Any = json.loads(payload) if len(payload) <= _MAX_EVENT_BYTES else None
            event = cls(tree["time_ms"], tree["cause"], tree["label"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise PacketError(f"event: {type(error).__name__}") from error
        texts = (event.cause, event.label)
        good = all(isinstance(text, str) and text.isprintable() and len(text) <= _LONGEST_LABEL for text in texts)
        if not good or type(event.time_ms) is not int or not 0 <= event.time_ms < 2**53:
            raise PacketError("event: a field that makes no sense")
        return event


@dataclass
class HeardStream:
    """What was heard of one stream."""

    topics: Topics
    birth: Birth | None = None
    state: State | None = None
    first_state: tuple[float, State] | None = None
    """The first one that was not retained, and when it came, in monotonic seconds; with the last, it gives a rate."""
    last_state: tuple[float, State] | None = None
    event: HeardEvent | None = None
    """The last one to begin of those that were heard."""
    acks: int = 0
    """Acknowledgements, of all layers."""
    decode_ms: list[int] = field(default_factory=list)
    """Decoding times that receivers have told, but not 0: nothing was decoded yet."""

    @property
    def name(self) -> str:
        """`SITE/DEVICE/STREAM`."""
        return self.topics.name

    @property
    def decode_s(self) -> float | None:
        """The median decoding time that was told; None if none was."""
        return sorted(self.decode_ms)[len(self.decode_ms) // 2] / 1000 if self.decode_ms else None

    @property
    def fps(self) -> float | None:
        """Frames a second: counted between two states of one start, else the most that the birth says; None without."""
        if self.first_state is not None and self.last_state is not None:
            (began_s, first), (ended_s, last) = self.first_state, self.last_state
            if ended_s > began_s and last.epoch == first.epoch and last.frames >= first.frames:
                return (last.frames - first.frames) / (ended_s - began_s)
        return None if self.birth is None else self.birth.fps


class FleetListener:
    """Listener to births, states and events and, if `acks`, acknowledgements. Thread-safe. With a `key`, a birth that
    is not authenticated by it is ignored, and so are acknowledgements."""

    def __init__(self, *, key: bytes | None = None, acks: bool = False) -> None:
        kinds = ("birth", "state", "event", *(("ack",) if acks else ()))
        self.topics = [f"edgesem/v1/+/+/+/{kind}" for kind in kinds]
        self.malformed = 0
        self._key = key
        self._lock = threading.Lock()
        self._streams: dict[str, HeardStream] = {}

    def listen(self, address: Address | Sequence[Address], seconds: float) -> list[HeardStream]:
        """What is heard within so many seconds, by name. LinkError if there is no connection."""
        with Connection(address, name="fleet", subscribe=self.topics, on_message=self.take):
            time.sleep(seconds)
        return self.heard()

    def heard(self) -> list[HeardStream]:
        """What was heard so far, by name."""
        with self._lock:
            return sorted(map(replace, self._streams.values()), key=lambda stream: stream.name)

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message; one that cannot be read is counted."""
        with self._lock:
            try:
                topics, kind = Topics.parse(topic)
                if payload:
                    self._take(topics, kind, payload)
                else:
                    self._deleted(topics, kind)
            except PacketError:
                self.malformed += 1

    def _deleted(self, topics: Topics, kind: str) -> None:
        """A retained message was deleted: of a camera that is no more, both are."""
        stream = self._streams.get(topics.base)
        if stream is None:
            return
        if kind == "birth":
            stream.birth = None
        elif kind == "state":
            stream.state = stream.first_state = stream.last_state = None
        if stream.birth is None and stream.state is None:
            del self._streams[topics.base]

    def _take(self, topics: Topics, kind: str, payload: bytes) -> None:
        now_s = time.monotonic()
        stream = self._streams.get(topics.base) or HeardStream(topics)
        if kind == "birth":
            stream.birth = Birth.from_bytes(payload, base=topics.base, key=self._key)
        elif kind == "state":
            state = State.from_bytes(payload)
            fresh = stream.state is not None and stream.state.time_ms != state.time_ms
            stream.state = state
            if fresh and state.up:
                first = stream.first_state
                if first is None or first[1].epoch != state.epoch:  # a sender that starts anew counts anew
                    stream.first_state = now_s, state
                stream.last_state = now_s, state
        elif kind == "event":
            event = HeardEvent.from_bytes(payload)
            if stream.event is None or event.time_ms >= stream.event.time_ms:
                stream.event = event
        elif kind == "ack" and self._key is None:
            ack = Ack.from_bytes(payload)
            stream.acks += 1
            if ack.decode_ms and len(stream.decode_ms) < _MOST_ACKS:
                stream.decode_ms.append(ack.decode_ms)
        if topics.base not in self._streams and len(self._streams) < _MOST_STREAMS:
            self._streams[topics.base] = stream
