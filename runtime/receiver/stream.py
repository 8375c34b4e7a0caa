"""One stream of a receiver: what is known of it, and what it may cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from edgesem.codec.reference import Ring
from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_SIDE
from runtime.protocol.birth import Birth
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.decoder_process import Drawing
from runtime.receiver.history import History
from runtime.receiver.inbox import Inbox


@dataclass(frozen=True)
class Limits:
    """What strangers may cost us."""

    streams: int = 256
    streams_per_device: int = 16
    backlog: int = 2
    """Ordinary frames of a stream that may wait for a decoder."""
    max_pixels: int = 1920 * 1088
    """Of one frame: it decides how long a decoder is busy, and its memory."""

    def __post_init__(self) -> None:
        if not 256 <= self.max_pixels <= MAX_SIDE * MAX_SIDE:
            raise UsageError(f"max_pixels must be 256 to {MAX_SIDE * MAX_SIDE}, got {self.max_pixels}")
        if min(self.streams, self.streams_per_device, self.backlog) < 1:
            raise UsageError("limits of streams and backlog must be 1 or more")


@dataclass(eq=False)
class Stream:
    """One stream: its inbox, how it is drawn, and what is known of it. Change it under `Streams.lock` only."""

    topics: Topics
    inbox: Inbox
    drawing: Drawing
    heard_s: float = field(default_factory=time.monotonic)
    history: History = field(default_factory=History)
    state: State | None = None
    birth: Birth | None = None
    pictures: int = 0
    decode_s: float = 0.0
    """Decoding that the stream has had."""
    references: Ring = field(default_factory=Ring)
    """The latents that packets may refer to."""
    asked_key_s: float = float("-inf")
    """When its sender was asked for a keyframe."""
    asked_apart_s: float = float("-inf")
    """When its sender was asked to send each layer in a message of its own."""
    busy: bool = False
    """A decoder is at work for it; one at a time, so that its pictures come in order."""

    @property
    def name(self) -> str:
        """`site/device/stream`."""
        return f"{self.topics.site}/{self.topics.device}/{self.topics.stream}"

    @property
    def device(self) -> tuple[str, str]:
        """Whose stream it is: site and device."""
        return self.topics.site, self.topics.device
