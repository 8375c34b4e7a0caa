"""Settings of `edgesem receive`, from a TOML file or from flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from edgesem.config import setting
from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE
from runtime.catalogue.settings import CatalogueSettings
from runtime.daemon.event_settings import GatherSettings
from runtime.mqtt.settings import BrokerSettings
from runtime.protocol.shard import Shard
from runtime.receiver.archive_entry import MAX_BYTES as ARCHIVE_BYTES
from runtime.receiver.options import Limits, ReceiverOptions
from runtime.receiver.semantic_filter import MIN_SCORE
from runtime.receiver.stamp import STAMPS
from runtime.receiver.synthesis import DECODERS, MAX_STEPS, DecoderSize, SynthesisOptions
from runtime.receiver.times import parse_span
from runtime.receiver.viewing import VIEWS
from runtime.settings import ListenAddress, SealSettings, StateFolderSettings

KINDS = ("archive", "png", "jpg", "mkv", "none")
"""What ordinary frames become in the folder: packets of an archive, pictures, a video, or nothing (promised only)."""


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
    decoder: str = setting("auto", one_of=DECODERS)
    """Base decoder; auto: the large one where the bundle has one, no steps are taken and no other frame waits."""
    workers: int = setting(0, low=0, high=256)
    """Most decoder processes, of which as many are started as have work; 0: one a processor that we may use."""
    bundle: Path | None = None
    """Folder of the senders' bundle; the one that ships if empty."""
    more_bundles: tuple[Path, ...] = ()
    """Folders of further bundles, so that senders can change theirs one by one; `default` is the one that ships."""
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

    @property
    def bundles(self) -> tuple[Path | None, ...]:
        """All bundles, the first one first; None is the one that ships."""
        return self.bundle, *self.more_bundles


@dataclass(frozen=True)
class OutSettings:
    """Where pictures go."""

    folder: Path | None = None
    """Folder for pictures; promised frames are acknowledged only with one."""
    kind: str = setting(KINDS[0], one_of=KINDS)
    """What ordinary frames become in the folder; none: promised ones only."""
    archive: Path | None = None
    """Folder where all packets are kept as they came, for `edgesem archive` and `edgesem search`: `folder` if `kind` is
    archive."""
    max_bytes: int = setting(0, low=0, high=2**50)
    """Disk space of ordinary pictures and videos: the oldest are deleted; 0: as much as there is."""
    max_age: str = ""
    """Ordinary pictures, videos and archived frames are deleted after so long, such as 30d; never if empty."""
    archive_max_bytes: int = setting(ARCHIVE_BYTES, low=1 << 20, high=2**50)
    """Disk space of the archive: the oldest frames are deleted, ordinary ones first."""
    promised_max_bytes: int = setting(0, low=0, high=2**50)
    """Disk space of promised frames and their pictures: the oldest are deleted; 0: as much as there is."""
    promised_max_age: str = ""
    """Promised frames and their pictures are deleted after so long, such as 365d; never if empty."""
    free_bytes: int | None = setting(None, low=0, high=2**50)
    """What ordinary frames leave free on the disk, for promised ones: the oldest are deleted. 256 MiB, or an eighth of
    a disk below 2 GiB, if it is not named."""
    stamp: str = setting("auto", one_of=STAMPS)
    """Time, camera and "drawn" over each picture: off, small or bar; auto: only a label where detail was invented."""
    view: str = setting("page", one_of=VIEWS)
    """For whom senders on demand send pictures and not thumbnails only: page, who looks at the live page or follows a
    video of it; always, this receiver itself, whatever becomes of them; never."""
    http: str = ""
    """Address of the live page and of the metrics: PORT on loopback, or HOST:PORT; none if empty."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which a reverse proxy on this machine is reached: a page on loopback answers to these, too."""
    jpeg_topic: bool = False
    """Publish the latest picture of each stream as JPEG, retained, on its topic `jpeg`."""
    home_assistant: bool = False
    """The same, and announce each stream to Home Assistant as a device, with its camera and its figures."""
    home_assistant_prefix: str = "homeassistant"
    """Prefix of Home Assistant's discovery topics."""
    home_assistant_control: bool = True
    """Whether Home Assistant may ask for something: snapshots, pauses, watch words, steps."""
    only: tuple[str, ...] = ()
    """Decode only pictures that show one of these."""
    only_score: float = setting(MIN_SCORE, low=0, high=1)
    """How well they must: the share of the bundle's own pictures that fit less."""

    def __post_init__(self) -> None:
        if self.kind != KINDS[0] and self.folder is None:
            raise UsageError(f"out.kind {self.kind} needs a folder to write to: name one by out.folder")
        if any(c in "/+#" for c in self.home_assistant_prefix) or not self.home_assistant_prefix.isprintable():
            raise UsageError(f"out.home_assistant_prefix {self.home_assistant_prefix!r} is no part of a topic")
        for name in self.allowed_hosts:
            if not name or name != name.strip() or set(name) & set("/:*@[] "):
                raise UsageError(f"out.allowed_hosts: {name!r} is no name of a host, such as cams.example")
        self.listen_address()
        self.max_ages_s()

    @property
    def archive_folder(self) -> Path | None:
        """Where packets are kept; None if they are not."""
        return self.archive or (self.folder if self.kind == "archive" else None)

    def max_ages_s(self) -> tuple[float, float]:
        """How old ordinary and promised frames become, in seconds; 0: as old as may be.

        Raises UsageError for what is no span of time, or promised frames that are to go before ordinary ones.
        """
        ages = {"out.max_age": self.max_age, "out.promised_max_age": self.promised_max_age}
        ordinary_s, promised_s = (parse_span(text, name) if text else 0.0 for name, text in ages.items())
        if promised_s and (not ordinary_s or promised_s < ordinary_s):
            raise UsageError(
                f"out.promised_max_age {self.promised_max_age}: ordinary frames go before promised ones, "
                f"so give an out.max_age that is not longer, got {self.max_age or 'none'}"
            )
        return ordinary_s, promised_s

    def listen_address(self) -> ListenAddress | None:
        """Where the live page is served, None if it is not. Raises UsageError if `http` is no address."""
        return ListenAddress.parse(self.http, "out.http") if self.http else None


@dataclass(frozen=True)
class ReceiveSettings:
    """Settings of `edgesem receive`."""

    streams: tuple[str, ...] = ("+/+/+",)
    """Streams to receive, SITE/DEVICE/STREAM with + for any name. One that is named in full always has a place."""
    shard: str = ""
    """I/N: only the streams that fall to receiver I (0 to N - 1) of N that divide them; all of them if empty."""
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)
    draw: DrawSettings = field(default_factory=DrawSettings)
    out: OutSettings = field(default_factory=OutSettings)
    catalogue: CatalogueSettings = field(default_factory=CatalogueSettings)
    event: GatherSettings = field(default_factory=GatherSettings)
    monitor: StateFolderSettings = field(default_factory=StateFolderSettings)

    def __post_init__(self) -> None:
        self.options()  # checks the shard
        if self.catalogue.url and self.out.archive_folder is None:
            raise UsageError("catalogue.url takes what is archived: name a folder by out.folder or out.archive")
        if self.event.active and self.out.folder is None:
            raise UsageError("event.command and event.webhook need a folder for the clips: name one by out.folder")

    def options(self) -> ReceiverOptions:
        """The options of the receiver."""
        draw = self.draw
        return ReceiverOptions(
            layers=draw.layers,
            synthesis=SynthesisOptions(draw.steps, draw.seed, draw.realism, cast(DecoderSize, draw.decoder)),
            decoders=draw.workers or None,
            view=self.out.view,
            shard=Shard.parse(self.shard) if self.shard else None,
            limits=Limits(
                streams=draw.max_streams,
                streams_per_device=draw.max_streams_per_device,
                backlog=draw.backlog,
                max_pixels=draw.max_pixels,
                reference_bytes=draw.reference_bytes,
            ),
        )
