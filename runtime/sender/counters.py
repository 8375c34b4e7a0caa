"""What a sender has done since its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """What has happened since the start."""

    sent_bytes: int = 0
    frames: int = 0
    encode_s: float = 0.0
    """Spent on analyzing and packing them."""
    skipped: int = 0
    dropped_layers: int = 0
    """Not sent, because a newer frame was there."""
    promised_refused: int = 0
    acknowledged: int = 0
    """Layers that a receiver has."""
    connections: int = 0
