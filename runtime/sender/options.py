"""Options of a sender: what is sent, how often and how good. Resources (codec, keys, folder) are arguments instead."""

from __future__ import annotations

from dataclasses import dataclass

from edgesem.errors import UsageError
from runtime.mqtt.settings import ACK_TIMEOUT_S
from runtime.protocol.command import LARGEST_FRAME_BYTES, MAX_RATE_BPS, MIN_FRAME_BYTES
from runtime.sender.event_recorder import EventOptions
from runtime.settings import (
    KEYFRAME_INTERVAL_S,
    MAX_FRAME_BYTES,
    MAX_RECEIVERS,
    SPOOL_BYTES,
    STATE_INTERVAL_S,
)


@dataclass(frozen=True, kw_only=True)
class PipelineOptions:
    """Options of encoding and publishing. Raises UsageError for a value out of its range."""

    min_quality: float = 0.0
    """0 to 1; a frame that would be worse is skipped."""
    max_bytes: int = MAX_FRAME_BYTES
    """Size limit of an ordinary frame with all its messages, 256 to 200,000 bytes."""
    max_rate_bps: int = 0
    """The most bits a second of ordinary frames with all their messages; 0: as many as the link bears."""
    denoise: bool = False
    """Average over frames what does not change, against the sensor's noise; not for evidence. Promised frames stay as
    they are. Needs a bundle with inter frames."""
    sharp: bool = False
    """On a thin link: fewer and finer frames, in place of all frames, coarser."""
    promise_every: int = 0
    """Every so many frames one is promised; 0: none but those given to `promise`. Needs a spool."""
    key_interval_s: float = KEYFRAME_INTERVAL_S
    """A keyframe at least so often, in seconds."""
    most_receivers: int = MAX_RECEIVERS
    """With more receivers than that, or 0, every frame is a keyframe."""
    idle_every_s: float = 0.0
    """0: pictures always. Above: only while somebody watches, and until then a thumbnail (the base layer of a frame)
    each so many seconds, at most an hour."""
    events: EventOptions | None = None
    """How events are made, which promise frames from before and after them; None: there are none. Needs a spool."""
    ack_timeout_s: float = ACK_TIMEOUT_S
    """If the broker confirms nothing for so many seconds, the connection is made anew."""

    def __post_init__(self) -> None:
        _check("min_quality", self.min_quality, 0, 1)
        _check("max_bytes", self.max_bytes, MIN_FRAME_BYTES, LARGEST_FRAME_BYTES)
        _check("max_rate_bps", self.max_rate_bps, 0, MAX_RATE_BPS)
        _check("promise_every", self.promise_every, 0)
        _check("key_interval_s", self.key_interval_s, 0)
        _check("most_receivers", self.most_receivers, 0)
        _check("idle_every_s", self.idle_every_s, 0, 3600)
        _check("ack_timeout_s", self.ack_timeout_s, 0)


@dataclass(frozen=True, kw_only=True)
class SenderOptions(PipelineOptions):
    """Options of a `StreamSender`. Raises UsageError for a value out of its range."""

    fps: float = 1.0
    """At most so many frames a second, 0.001 to 60."""
    spool_bytes: int = SPOOL_BYTES
    """What promised frames may take of the disk."""
    size: tuple[int, int] = (0, 0)
    """Width and height that the birth message says; 0 if they vary."""
    state_interval_s: float = STATE_INTERVAL_S
    """How often `offer` has the state published, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("fps", self.fps, 0.001, 60)
        _check("spool_bytes", self.spool_bytes, 65536)
        _check("state_interval_s", self.state_interval_s, 0)


def _check(name: str, value: float, low: float, high: float = float("inf")) -> None:
    if not low <= value <= high:
        limits = f"{low:g} to {high:g}" if high != float("inf") else f"at least {low:g}"
        raise UsageError(f"sender option {name} is {value!r}, must be {limits}")
