"""What `edgesem receive` can be told, in a TOML file or by flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE
from runtime.daemon.receive import KINDS, Plan
from runtime.receiver.decoder_process import MAX_STEPS, Drawing
from runtime.receiver.stream import Limits
from runtime.settings import BrokerSettings, SealSettings
from runtime.web.server import Place


@dataclass(frozen=True)
class DrawSettings:
    """How pictures are decoded."""

    layers: int = setting(MAX_LAYERS, low=1, high=MAX_LAYERS)
    steps: int = setting(0, low=0, high=MAX_STEPS)
    realism: float = setting(1.0, low=0, high=1)
    seed: int = setting(0, low=0, high=2**32 - 1)
    workers: int = setting(0, low=0, high=256)
    """Decoders; 0: one a core."""
    bundle: Path | None = None
    max_pixels: int = setting(1920 * 1088, low=256, high=MAX_SIDE * MAX_SIDE)
    backlog: int = setting(2, low=1, high=1000)
    """Ordinary frames of a stream that may wait for a decoder."""
    max_streams: int = setting(256, low=1, high=10_000)
    max_streams_per_device: int = setting(16, low=1, high=10_000)


@dataclass(frozen=True)
class OutSettings:
    """Where pictures go."""

    folder: Path | None = None
    kind: str = setting("png", one_of=KINDS)
    http: str = ""
    jpeg_topic: bool = False
    home_assistant: bool = False
    home_assistant_prefix: str = "homeassistant"
    archive: Path | None = None
    """Folder where all packets are kept as they came, for `edgesem search`."""
    only: tuple[str, ...] = ()
    """Draw only pictures that show one of these."""
    only_score: float = setting(0.9, low=0, high=1)
    """How well they must: the share of pictures at large that fit less."""


@dataclass(frozen=True)
class ReceiveSettings:
    """All of it."""

    streams: tuple[str, ...] = ("+/+/+",)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    out: OutSettings = field(default_factory=OutSettings)

    def plan(self, *, pictures: int | None = None, seconds: float | None = None) -> Plan:
        """What the daemon is to do. UsageError for settings that do not go together."""
        draw, out = self.draw, self.out
        if out.kind != OutSettings.kind and out.folder is None:
            raise UsageError(f"--as {out.kind} needs a folder to write to: name one by --out")
        if any(c in "/+#" for c in out.home_assistant_prefix) or not out.home_assistant_prefix.isprintable():
            raise UsageError(f"home_assistant_prefix {out.home_assistant_prefix!r} is no part of a topic")
        return Plan(
            address=self.broker.address(),
            streams=self.streams,
            layers=draw.layers,
            drawing=Drawing(draw.steps, draw.seed, draw.realism),
            bundle=draw.bundle,
            workers=draw.workers or None,
            limits=Limits(draw.max_streams, draw.max_streams_per_device, draw.backlog, draw.max_pixels),
            key=self.seal.key(),
            folder=out.folder,
            kind=out.kind,
            http=Place.parse(out.http) if out.http else None,
            jpeg_topic=out.jpeg_topic or out.home_assistant,
            home_assistant=out.home_assistant_prefix if out.home_assistant else None,
            archive=out.archive,
            only=out.only,
            only_score=out.only_score,
            most_pictures=pictures,
            seconds=seconds,
        )
