"""What an archive or a catalogue says of a frame and of a stream, and what both can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from edgesem.packet.packet import Packet

MAX_BYTES = 4 << 30
"""Size of an archive, if nothing else is said."""


@dataclass(frozen=True)
class Entry:
    """One archived frame."""

    id: int
    stream: str
    epoch: int
    frame: int
    captured_s: float
    """Capture time in Unix seconds, as far as sender's and receiver's clocks agree."""
    layers: int
    size_bytes: int
    promised: bool
    grey: bool = False
    """Whether the camera gave no colour: what is decoded with some is not true."""


class Total(NamedTuple):
    """What an archive has of one stream."""

    stream: str
    frames: int
    promised: int
    """Of them."""
    first_s: float
    last_s: float
    """Capture time of the oldest and of the newest, in Unix seconds."""
    size_bytes: int


class FrameHistory(Protocol):
    """What was kept of streams, as those who look back ask. Each method raises InputError for what is not kept."""

    def spread(self, stream: str, since_s: float, until_s: float, count: int) -> list[Entry]:
        """At most `count` frames of a stream: the first in each of so many equal parts of a time (Unix seconds)."""

    def newest(self, stream: str, until_s: float) -> Entry | None:
        """The frame of a stream that was captured last, at `until_s` (Unix seconds) or before; or None."""

    def packet(self, entry: Entry) -> Packet:
        """The packet of a frame as it came."""

    def earlier(self, entry: Entry, frame: int) -> tuple[Entry, Packet]:
        """Another frame of the same stream and epoch, which the packet of `entry` refers to, and its packet."""


class FrameStore(FrameHistory, Protocol):
    """All frames of an archive or of a catalogue."""

    def entries(
        self, *, stream: str | None = None, since_s: float | None = None, until_s: float | None = None
    ) -> list[Entry]:
        """Frames of a stream and a time (Unix seconds), oldest first."""

    def streams(self) -> list[Total]:
        """What is kept of each stream, by name."""

    def missing(self, *, stream: str | None, since_s: float | None, until_s: float | None) -> list[Entry]:
        """Of these frames those that have no embedding."""

    def set_embedding(self, entry: Entry, embedding: bytes) -> None:
        """Store the embedding of a frame whose packet had none."""
