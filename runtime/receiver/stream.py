"""One stream of a receiver: its inbox, its settings, and what its sender has said of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from edgesem.codec.reference import ReferenceBuffer
from edgesem.errors import PacketError
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.birth import Birth
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.history import History
from runtime.receiver.inbox import Inbox
from runtime.receiver.synthesis import SynthesisOptions


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
    pictures: int = 0
    """Frames decoded."""
    decode_s: float = 0.0
    """Decoder time that the stream has used, in seconds."""
    references: ReferenceBuffer = field(default_factory=ReferenceBuffer)
    """The latents that inter frames may refer to."""
    asked_key_s: float = float("-inf")
    """When its sender was last asked for a keyframe."""
    asked_apart_s: float = float("-inf")
    """When its sender was last asked to send each layer in a message of its own."""
    busy: bool = False
    """Whether a decoder works for it: one at a time, so that its pictures come in order."""

    @property
    def name(self) -> str:
        """`site/device/stream`."""
        return f"{self.topics.site}/{self.topics.device}/{self.topics.stream}"

    @property
    def device(self) -> tuple[str, str]:
        """Whose stream it is: site and device."""
        return self.topics.site, self.topics.device

    def take_state(self, payload: bytes) -> None:
        """Take a state message. Raises PacketError if it is none."""
        self.state = State.from_bytes(payload)
        self.history.add_state(self.state)

    def take_birth(self, payload: bytes, *, key: bytes | None, bundle_id: int, limited_log: RateLimitedLog) -> None:
        """Take a birth message, whose salt opens the packets that follow if there is a `key`.

        Raises PacketError if it is none, if it is older than the one before (recorded and sent again), or if it
        announces packets that are not sealed although there is a key.
        """
        birth = Birth.from_bytes(payload, base=self.topics.base)
        before = self.birth
        if before is not None:
            if birth.public_key != before.public_key:
                limited_log.warn(
                    "%s has another key than before: another device, or somebody who plays its part", self.name
                )
            elif birth.time_ms < before.time_ms:
                raise PacketError("it is older than the one before: recorded and sent again")
            elif birth == before:
                return
        if key is not None:
            if not birth.sealed:
                raise PacketError("its packets are not sealed, and this receiver has a key: refused")
            self.inbox.offer(Seal(key, stream=self.topics.base, salt=birth.salt))
        self.birth = birth
        if birth.bundle_id != bundle_id:
            limited_log.warn(
                "%s sends with bundle %04x, this receiver has %04x: name its bundle with --bundle",
                self.name,
                birth.bundle_id,
                bundle_id,
            )
