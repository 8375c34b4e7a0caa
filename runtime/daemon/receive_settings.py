"""Settings of `edgesem receive`, from a TOML file or from flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.semantic_filter import MIN_SCORE
from runtime.receiver.synthesis import MAX_STEPS, SynthesisOptions
from runtime.settings import BrokerSettings, ListenAddress, SealSettings, StateFolderSettings

KINDS = ("png", "jpg", "mkv", "none")
"""What ordinary pictures become in the folder: files, a video, or nothing (promised ones only)."""


@dataclass(frozen=True)
class DrawSettings:
    """How frames are decoded, and what they may cost."""

    layers: int = setting(MAX_LAYERS, low=1, high=MAX_LAYERS)
    """Layers to receive, counted from the base layer."""
    steps: int = setting(0, low=0, high=MAX_STEPS)
    """Steps of the flow decoder; 0: the base decoder alone."""
    realism: float = setting(1.0, low=0, high=1)
    """How much detail the steps may add."""
    seed: int = setting(0, low=0, high=2**32 - 1)
    """Seed of what the steps add."""
    workers: int = setting(0, low=0, high=256)
    """Most decoder processes, of which as many are started as have work; 0: one a processor that we may use."""
    bundle: Path | None = None
    """Folder of the senders' bundle; the one that ships if empty."""
    max_pixels: int = setting(1920 * 1088, low=256, high=MAX_SIDE * MAX_SIDE)
    """Largest frame to decode."""
    backlog: int = setting(2, low=1, high=1000)
    """Ordinary frames of a stream that may wait for a decoder."""
    max_streams: int = setting(256, low=1, high=10_000)
    """Streams at a time."""
    max_streams_per_device: int = setting(16, low=1, high=10_000)
    """Streams of one device at a time."""
    reference_bytes: int = setting(256 << 20, low=1 << 20, high=2**40)
    """Memory of all latents that inter frames may refer to."""


@dataclass(frozen=True)
class OutSettings:
    """Where pictures go."""

    folder: Path | None = None
    """Folder for pictures; promised frames are acknowledged only with one."""
    kind: str = setting("png", one_of=KINDS)
    """What ordinary pictures become in the folder; none: promised ones only."""
    max_bytes: int = setting(0, low=0, high=2**50)
    """Disk space of ordinary pictures: the oldest are deleted; 0: as much as there is."""
    free_bytes: int = setting(256 << 20, low=0, high=2**50)
    """What ordinary pictures leave free on the disk, for promised frames: the oldest are deleted."""
    http: str = ""
    """Address of the live page and of the metrics: PORT on loopback, or HOST:PORT; none if empty."""
    jpeg_topic: bool = False
    """Publish the latest picture of each stream as JPEG, retained, on its topic `jpeg`."""
    home_assistant: bool = False
    """The same, and announce each stream to Home Assistant as a camera."""
    home_assistant_prefix: str = "homeassistant"
    """Prefix of Home Assistant's discovery topics."""
    archive: Path | None = None
    """Folder where all packets are kept as they came, for `edgesem search`."""
    only: tuple[str, ...] = ()
    """Decode only pictures that show one of these."""
    only_score: float = setting(MIN_SCORE, low=0, high=1)
    """How well they must: the share of the bundle's own pictures that fit less."""

    def __post_init__(self) -> None:
        if self.kind != KINDS[0] and self.folder is None:
            raise UsageError(f"--as {self.kind} needs a folder to write to: name one by --out")
        if any(c in "/+#" for c in self.home_assistant_prefix) or not self.home_assistant_prefix.isprintable():
            raise UsageError(f"home_assistant_prefix {self.home_assistant_prefix!r} is no part of a topic")
        self.listen_address()

    def listen_address(self) -> ListenAddress | None:
        """Where the live page is served, None if it is not. Raises UsageError if `http` is no address."""
        return ListenAddress.parse(self.http) if self.http else None


@dataclass(frozen=True)
class ReceiveSettings:
    """Settings of `edgesem receive`."""

    streams: tuple[str, ...] = ("+/+/+",)
    """Streams to receive, SITE/DEVICE/STREAM with + for any name. One that is named in full always has a place."""
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    out: OutSettings = field(default_factory=OutSettings)
    monitor: StateFolderSettings = field(default_factory=StateFolderSettings)

    def options(self) -> ReceiverOptions:
        """The options of the receiver."""
        draw = self.draw
        return ReceiverOptions(
            layers=draw.layers,
            synthesis=SynthesisOptions(draw.steps, draw.seed, draw.realism),
            decoders=draw.workers or None,
            limits=Limits(
                streams=draw.max_streams,
                streams_per_device=draw.max_streams_per_device,
                backlog=draw.backlog,
                max_pixels=draw.max_pixels,
                reference_bytes=draw.reference_bytes,
            ),
        )
