"""Options of a receiver: which layers, how pictures are synthesized, and what strangers may cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE
from runtime.protocol.shard import Shard
from runtime.receiver.synthesis import SynthesisOptions
from runtime.receiver.viewing import VIEWS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on memory and computing time that senders can cause. Raises UsageError for a value out of range."""

    streams: int = 256
    """Streams at a time, but for those named in full, which always have a place. One too many replaces a stream that
    was silent for 10 minutes (10 s, if no picture has come of it), or is ignored."""
    streams_per_device: int = 16
    """The same for one device."""
    backlog: int = 2
    """Ordinary frames of one stream that may wait for a decoder; one more drops the oldest."""
    max_pixels: int = 1920 * 1088
    """Largest frame, in pixels: it bounds the decoder's time and memory."""
    promised_bytes: int = 64 << 20
    """Memory of all promised frames that wait for a decoder. Beyond it, one of each stream waits in memory, the others
    on the disk; without a folder, the stream's oldest is dropped."""
    reference_bytes: int = 256 << 20
    """Memory of all latents that inter frames may refer to. Where it does not suffice, silent streams lose theirs
    first, and their senders are asked for a keyframe."""

    def __post_init__(self) -> None:
        if not 256 <= self.max_pixels <= MAX_SIDE * MAX_SIDE:
            raise UsageError(f"max_pixels must be 256 to {MAX_SIDE * MAX_SIDE}, got {self.max_pixels}")
        limits = self.streams, self.streams_per_device, self.backlog, self.promised_bytes, self.reference_bytes
        if min(limits) < 1:
            raise UsageError("limits of streams, backlog, promised_bytes and reference_bytes must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class ReceiverOptions:
    """Options of a `StreamReceiver`. Raises UsageError for a value out of range.

    Resources (bundle, folder, key, archive) are arguments of the receiver instead.
    """

    layers: int = MAX_LAYERS
    """Layers to subscribe to, counted from the base layer, 1 to 4."""
    synthesis: SynthesisOptions = field(default_factory=SynthesisOptions)
    """How pictures of a new stream are synthesized; `receiver.streams.set_synthesis` changes it later."""
    decoders: int | None = None
    """Most decoder processes: as many are started as have work. If None, one for each processor that we may use."""
    limits: Limits = field(default_factory=Limits)
    view: str = "page"
    """For whom senders on demand send pictures, and not thumbnails only: page, who looks at the live page or follows a
    video of it (or calls `viewing.look`); always, this receiver itself; never."""
    shard: Shard | None = None
    """Which part of the streams to receive, where several receivers divide them; all of them, if None."""

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= MAX_LAYERS:
            raise UsageError(f"layers must be 1 to {MAX_LAYERS}, got {self.layers}")
        if self.view not in VIEWS:
            raise UsageError(f"view must be one of {', '.join(VIEWS)}, got {self.view!r}")
        if self.decoders is not None and self.decoders < 1:
            raise UsageError(f"decoders must be 1 or more, got {self.decoders}")
