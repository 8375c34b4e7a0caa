"""What a receiver remembers of a sealed stream: its newest birth and frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FreshStart:
    """The newest start of one device as a sender of one stream."""

    stream: str
    """The base of the stream's topics."""
    public_key: bytes
    birth: bytes
    """The birth message as it came."""
    newest: tuple[int, int] | None
    """Epoch and frame of the newest ordinary packet that was sealed for this start."""
