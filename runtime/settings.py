"""Settings of the daemons, from TOML or flags; `edgesem.config` reads them, docs/guides/send.md has an example."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from edgesem.config import setting
from edgesem.errors import InputError, UsageError
from edgesem.packet.keys import Identity, read_key
from edgesem.packet.packet import MAX_SIDE
from edgesem.packet.seal import KEY_BYTES
from runtime.protocol.command import LARGEST_FRAME_BYTES, MAX_RATE_BPS, MIN_FRAME_BYTES
from runtime.protocol.state import USUAL_FRAME_BYTES
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)

KEYFRAME_INTERVAL_S = 60.0
"""A keyframe at least so often."""
MAX_RECEIVERS = 8
"""With more receivers than this, every frame is a keyframe."""
MAX_FRAME_BYTES = USUAL_FRAME_BYTES
"""The largest frame, where nobody asks for another limit."""
SPOOL_BYTES = 256 * 1024 * 1024
"""Disk space of promised frames."""
WATCH_SCORE = 0.8
"""From this score on, a frame shows what is looked for. One picture in five at large fits a query so well; of a camera
that does not move, a scene that fits less well by itself fires when the thing comes into view."""
STATE_INTERVAL_S = 10.0
"""How often a sender publishes its state."""


def open_identity(path: Path) -> Identity:
    """The device's signing key in a file, made when it is not there.

    Where the disk is full or read-only, a key for this start alone is made, so that pictures go; receivers say that
    the device has another key.
    """
    try:
        return Identity.open(path)
    except InputError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        log.error("%s; signing with a key that is lost at the end", error)
        return Identity(secrets.token_bytes(KEY_BYTES))


_LEAST_DETAIL = 64


@dataclass(frozen=True)
class SourceSettings:
    """Where frames come from."""

    uri: str = "/dev/video0"
    """/dev/videoN, rtsp://..., a video file, a folder, - (PPM on stdin), picamera[:N], csi[:N], gst:PIPELINE."""
    width: int = setting(640, low=0, high=MAX_SIDE)
    """Asked of a camera; larger frames are shrunk to fit. 0: as they come, 1024 at most."""
    height: int = setting(480, low=0, high=MAX_SIDE)
    """As `width`."""
    rotate: int = setting(0, low=0, high=270)
    """Clockwise, in degrees."""
    watch: bool = False
    """Of a folder: go on with the pictures that come later."""
    loop: bool = False
    """Of a folder or a video file: begin again at its end."""
    grey: str = setting("auto", one_of=("auto", "on", "off"))
    """auto: pictures without colour, as those of infra-red cameras, are sent as grey; on: all are."""
    mask: Path | None = None
    """Privacy mask: TOML file of the areas that are filled before anything else gets the picture."""
    detail: str = ""
    """WIDTHxHEIGHT: asked of a camera, and kept of its newest picture, so that receivers may ask for parts of it; what
    is larger is shrunk to fit. Nothing is kept if empty."""

    @property
    def detail_size(self) -> tuple[int, int] | None:
        """Width and height of what is kept for details; None if nothing is. Raises UsageError for what is no size."""
        if not self.detail:
            return None
        width, _, height = self.detail.lower().partition("x")
        good = all(part.isascii() and part.isdigit() and len(part) <= 4 for part in (width, height))
        if not good or not all(_LEAST_DETAIL <= int(part) <= MAX_SIDE for part in (width, height)):
            raise UsageError(
                f"source.detail is {self.detail[:40]!r}, must be WIDTHxHEIGHT, such as 1920x1080, each "
                f"{_LEAST_DETAIL} to {MAX_SIDE}"
            )
        return int(width), int(height)

    def __post_init__(self) -> None:
        size = self.detail_size
        if size is not None and (size[0] < self.width or size[1] < self.height):
            raise UsageError(
                f"source.detail is {self.detail}, less than the {self.width}x{self.height} of the stream's pictures: "
                "give at least that"
            )
        if self.rotate % 90:
            raise UsageError(f"source.rotate is {self.rotate}, must be 0, 90, 180 or 270")


@dataclass(frozen=True)
class StreamSettings:
    """Which stream, how often, how good."""

    site: str = "home"
    """First part of the stream's name."""
    device: str = ""
    """Second part of the stream's name; the host's name if empty."""
    stream: str = "main"
    """Third part of the stream's name."""
    fps: float = setting(1.0, low=0.001, high=60)
    """At most so many frames a second."""
    min_quality: float = setting(0.0, low=0, high=1)
    """A frame that would be worse is skipped."""
    max_bytes: int = setting(MAX_FRAME_BYTES, low=MIN_FRAME_BYTES, high=LARGEST_FRAME_BYTES)
    """The largest frame."""
    max_rate_bps: int = setting(0, low=0, high=MAX_RATE_BPS)
    """The most bits a second of ordinary frames, also where the link bears more; 0: what it bears."""
    key_interval_s: float = setting(KEYFRAME_INTERVAL_S, low=0.1, high=86400)
    """At least so often a frame that refers to no earlier one."""
    most_receivers: int = setting(MAX_RECEIVERS, low=0, high=64)
    """With more receivers than that, or 0, no frame refers to an earlier one."""
    denoise: bool = False
    """Average over frames what does not change, against the sensor's noise. Not for evidence."""
    prefer: str = setting("smooth", one_of=("smooth", "sharp"))
    """What a thin link gets: all frames, coarser ones, or fewer and finer ones."""
    bundle: Path | None = None
    """Folder of the bundle; the one that ships if not set."""
    threads: int = setting(1, low=1, high=64)
    """Of ONNX Runtime."""

    def topics(self) -> Topics:
        """The stream's topics; UsageError if a name does not fit one."""
        return Topics(self.site, self.device or socket.gethostname().partition(".")[0] or "device", self.stream)


@dataclass(frozen=True)
class SealSettings:
    """Keys of a stream: the seal, and the device's signature."""

    key_file: Path | None = None
    """As `edgesem key` makes it; $EDGESEM_SEAL_KEY without it; not sealed without both."""
    identity_file: Path | None = None
    """The device's signing key; made in monitor.state_dir if it is not named."""

    def key(self) -> bytes | None:
        """The stream's key, or None: it is not sealed."""
        return read_key(self.key_file)


@dataclass(frozen=True)
class PromiseSettings:
    """Guaranteed delivery: frames that are kept on disk until a receiver keeps them."""

    every: int = setting(0, low=0, high=1_000_000)
    """Every so many frames one is promised; 0: none, 1: all."""
    max_bytes: int = setting(SPOOL_BYTES, low=65536, high=2**40)
    """Disk space of the spool."""
    linger_s: float = setting(0.0, low=0, high=7 * 86400)
    """After the last frame of a file or folder: stay at most so long for receivers to take what was promised; 0: as
    long as they take some of it each minute. What they have not taken by then stays on disk for the next start."""


@dataclass(frozen=True)
class TriggerSettings:
    """Semantic trigger of a sender: which frames it sends. Needs a bundle with a semantic head."""

    send_on: str = setting("all", one_of=("all", "change"))
    """change: only frames that show something that the receiver does not know."""
    queries: tuple[str, ...] = ()
    """Things to look for: they get the whole link, and their first frame is promised."""
    score: float = setting(WATCH_SCORE, low=0, high=1)
    """How well a frame must fit one of them, 0 to 1: the share of the bundle's own pictures that fit it less."""
    sensitivity: float = setting(1.0, low=0.05, high=20)
    """Of send_on = "change": 2 sends at half the change."""
    heartbeat_s: float = setting(30.0, low=0.1, high=86400)
    """A frame at least so often, change or not."""

    @property
    def active(self) -> bool:
        """Whether a trigger is asked for at all."""
        return self.send_on != "all" or bool(self.queries)


@dataclass(frozen=True)
class StateFolderSettings:
    """State folder of a daemon."""

    state_dir: Path | None = None
    """What a daemon must not forget; $STATE_DIRECTORY (systemd), else ~/.local/state/edgesem."""

    def folder(self) -> Path:
        """Where spool, identity, and what was last heard are."""
        if self.state_dir is not None:
            return self.state_dir
        systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(systemd) if systemd else Path(home) / "edgesem"


@dataclass(frozen=True)
class MonitorSettings(StateFolderSettings):
    """State folder, state messages and metrics of a sender."""

    state_s: float = setting(STATE_INTERVAL_S, low=0.5, high=3600)
    """How often the state message is published, in seconds."""
    metrics: str = ""
    """HOST:PORT of a Prometheus endpoint; none if empty."""

    def identity(self, path: Path | None) -> Identity:
        """The device's signing key, from the file named or the one in our folder."""
        return open_identity(path or self.folder() / "identity.key")


@dataclass(frozen=True)
class ListenAddress:
    """Where a server listens: host and port; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def parse(cls, text: str, name: str = "") -> ListenAddress:
        """`PORT` (loopback), `HOST:PORT` or `[V6]:PORT`. Raises UsageError for anything else, with the `name` of what
        was set to it."""
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            where = f"{name}: " if name else ""
            raise UsageError(
                f"{where}{text!r} is no address to listen on: write PORT, or HOST:PORT to be reached from afar"
            )
        return cls(host.removeprefix("[").removesuffix("]") or cls.host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"
