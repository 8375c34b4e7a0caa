"""One stream of a receiver: its inbox, its settings, and what its sender has said of itself."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from edgesem.errors import PacketError
from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.birth import Birth
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.history import History
from runtime.receiver.inbox import Inbox
from runtime.receiver.skipped_picture import SkippedPicture
from runtime.receiver.stream_references import StreamReferences
from runtime.receiver.synthesis import SynthesisOptions

_MOST_BIRTHS = 4
_LEAST_SILENT_S, _MOST_SILENT_S = 60.0, 86400.0
_MISSED = 3
"""A sender of which so many messages in a row have not come is dead or cut off."""


@dataclass(frozen=True)
class FreshStart:
    """What is remembered of the newest start of one device as a sender of one sealed stream: its birth and frame."""

    stream: str
    """The base of the stream's topics."""
    public_key: bytes
    birth: bytes
    """The birth message as it came."""
    newest: tuple[int, int] | None
    """Epoch and frame of the newest ordinary packet that was sealed for this start."""


@dataclass(eq=False)
class Stream:
    """One stream. Not thread-safe: read and change it under `Streams.lock`."""

    topics: Topics
    inbox: Inbox
    synthesis: SynthesisOptions
    heard_s: float = field(default_factory=time.monotonic)
    """When its last good message came, by the monotonic clock."""
    history: History = field(default_factory=History)
    state: State | None = None
    birth: Birth | None = None
    """The birth that was taken last."""
    births: OrderedDict[bytes, Birth] = field(default_factory=OrderedDict)
    """The newest start of each device that sends under this name, by its public key."""
    birth_messages: dict[bytes, bytes] = field(default_factory=dict)
    """The same as they came."""
    saved: list[FreshStart] = field(default_factory=list)
    """What the disk remembers of it."""
    pictures: int = 0
    """Frames decoded."""
    decode_s: float = 0.0
    """Decoder time that the stream has used, in seconds."""
    references: StreamReferences = field(default_factory=StreamReferences)
    """The latents that inter frames may refer to."""
    reference_bytes: int = 0
    """Their memory."""
    asked_key_s: float = float("-inf")
    """When its sender was last asked for a keyframe."""
    asked_first: tuple[bytes, int] = (b"", 0)
    """The salt of the sender's start, and how often it was asked for a first keyframe."""
    told_bundle_s: float = float("-inf")
    """When its sender was last told that we do not have its bundle."""
    asked_apart_s: float = float("-inf")
    """When its sender was last asked to send each layer in a message of its own."""
    _grey_since: tuple[int, int] | None = None
    """The epoch, and since when (Unix milliseconds) the sender says in each state that its pictures have no colour."""
    skipped: SkippedPicture | None = None
    """The newest ordinary frame, if its picture was not drawn."""
    busy: bool = False
    """Whether a decoder works for it: one at a time, so that its pictures come in order."""

    @property
    def name(self) -> str:
        """`site/device/stream`."""
        return self.topics.name

    @property
    def has_two_senders(self) -> bool:
        """Whether two senders share the name at present."""
        return self.inbox.conflict.seen

    @property
    def absence(self) -> str:
        """Why nothing can be asked of the sender: it is gone, or not heard for `silent_s`. Empty while it is there."""
        if self.state is not None and not self.state.up:
            return "the sender is gone"
        return "nothing is heard from the sender" if time.monotonic() - self.heard_s > self.silent_s else ""

    @property
    def interval_s(self) -> float | None:
        """Seconds from frame to frame, as the birth says; None if it says nothing."""
        return 1 / max(self.birth.fps, 1 / _MOST_SILENT_S) if self.birth is not None and self.birth.fps > 0 else None

    @property
    def silent_s(self) -> float:
        """How many seconds without a message say that the sender is dead or cut off: a slow one is heard less often."""
        state_s = 0.0 if self.state is None else self.state.interval_s
        longest_s = _MISSED * max(state_s, self.interval_s or 0.0)
        return min(max(_LEAST_SILENT_S, longest_s), _MOST_SILENT_S)

    def is_grey(self, packet: Packet) -> bool:
        """Whether the sender says that the picture of a packet has no colour: it has said so since before the capture.

        Any thread may ask.
        """
        since = self._grey_since
        return since is not None and packet.epoch == since[0] and full_time_ms(packet) >= since[1]

    @property
    def device(self) -> tuple[str, str]:
        """Whose stream it is: site and device."""
        return self.topics.site, self.topics.device

    def take(
        self,
        kind: str,
        topic: str,
        payload: bytes,
        *,
        key: bytes | None,
        bundle_ids: Collection[int],
        limited_log: RateLimitedLog,
    ) -> bool:
        """Take a message of one of the stream's topics: `pkt`, `birth` or `state`; whether it was good.

        With a `key`, a state is good only for a stream that the key has authenticated: anybody can write one.
        """
        if kind == "pkt":
            return self.inbox.take(topic, payload)
        if kind not in ("birth", "state") or not payload:  # an empty one: a retained message was deleted
            return False
        try:
            if kind == "state":
                self.take_state(payload)
                return key is None or bool(self.births)
            self.take_birth(payload, key=key, bundle_ids=bundle_ids, limited_log=limited_log)
        except PacketError as error:
            self.inbox.counters.malformed += 1
            limited_log.warn("dropped the %s of %s: %s", kind, self.name, error)
            return False
        return True

    def set_synthesis(self, steps: int | None, realism: float | None) -> None:
        """Change how the next pictures are synthesized. Raises UsageError for a value out of range."""
        options = self.synthesis
        if steps is not None:
            options = replace(options, steps=steps)
        if realism is not None:
            options = replace(options, realism=realism)
        self.synthesis = options

    def take_state(self, payload: bytes) -> None:
        """Take a state message. Raises PacketError if it is none."""
        state = self.state = State.from_bytes(payload)
        if not state.grey:
            self._grey_since = None
        elif self._grey_since is None or self._grey_since[0] != state.epoch:
            self._grey_since = state.epoch, state.time_ms
        self.history.add_state(state)

    def take_birth(
        self, payload: bytes, *, key: bytes | None, bundle_ids: Collection[int], limited_log: RateLimitedLog
    ) -> bool:
        """Take a birth message, whose salt opens the packets that follow if there is a `key`; whether it is news.

        Raises PacketError if it is none, if it is of an earlier start than the one before (recorded and sent again), or
        if there is a key and the birth is not authenticated by it, or announces packets that are not sealed.
        """
        birth = Birth.from_bytes(payload, base=self.topics.base, key=key)
        known = self.births.get(birth.public_key)
        if known is not None and birth.start < known.start:
            raise PacketError(
                f"it is of start {birth.start}, earlier than {known.start}: recorded and sent again, "
                "or of another device with a copy of this one's state directory"
            )
        if key is not None and not birth.sealed:
            raise PacketError("its packets are not sealed, and this receiver has a key: refused")
        if self.inbox.conflict.note("birth", birth.salt):
            limited_log.warn("two senders call themselves %s: give each a name of its own", self.name)
        elif known is None and self.births:
            limited_log.warn(
                "%s has another key than before: another device, or somebody who plays its part", self.name
            )
        self.birth = birth
        self.birth_messages[birth.public_key] = payload
        if known is not None and birth.salt == known.salt:
            return False
        self._remember(birth, key)
        if birth.bundle_id not in bundle_ids:
            limited_log.warn(
                "%s sends with bundle %04x, this receiver has %s: name its bundle with --bundle too",
                *(self.name, birth.bundle_id, ", ".join(f"{one:04x}" for one in bundle_ids)),
            )
        return True

    def restore(self, start: FreshStart, key: bytes) -> None:
        """Take a start that an earlier run of this receiver has remembered. Raises PacketError if it is damaged."""
        birth = Birth.from_bytes(start.birth, base=self.topics.base, key=key)
        self.birth_messages[birth.public_key] = start.birth
        self._remember(birth, key, start.newest)

    def fresh_starts(self) -> list[FreshStart]:
        """What is to be remembered of this stream, if it is sealed."""
        return [
            FreshStart(self.topics.base, one.public_key, self.birth_messages[one.public_key], one.newest)
            for one in self.inbox.seals.starts()
        ]

    def _remember(self, birth: Birth, key: bytes | None, newest: tuple[int, int] | None = None) -> None:
        self.births[birth.public_key] = birth
        self.births.move_to_end(birth.public_key)
        while len(self.births) > _MOST_BIRTHS:
            self.birth_messages.pop(self.births.popitem(last=False)[0], None)
        if key is not None:
            self.inbox.seals.offer(birth.public_key, Seal(key, stream=self.topics.base, salt=birth.salt), newest)
