"""What an archive says of a frame, and of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
