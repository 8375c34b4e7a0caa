"""Counters of a sender."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """Counts since the start. Written under the publisher's lock, or by one thread each."""

    sent_bytes: int = 0
    frames: int = 0
    encode_s: float = 0.0
    """Spent on analyzing and packing them."""
    skipped: int = 0
    unchanged: int = 0
    """Frames that the semantic trigger left out."""
    dropped_layers: int = 0
    """Not sent, because a newer frame was there."""
    promised_refused: int = 0
    acknowledged: int = 0
    """Layers that a receiver has."""
    refused: int = 0
    """Messages that the broker has refused."""
    other_bundle: int = 0
    """Times that a receiver said that it does not have our bundle."""
    pieces: int = 0
    """Of promised frames that do not go in one message."""
    connections: int = 0
