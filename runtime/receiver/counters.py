"""Counters of one received stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ReceiverCounters:
    """What has come of one stream since the receiver started. Change it under `Streams.lock` only."""

    layers: int = 0
    """Layers accepted; a message has one or more."""
    size_bytes: int = 0
    """Bytes of the accepted messages, without their topics."""
    malformed: int = 0
    """Messages that were no packet, did not belong to their topic, or were larger than we decode."""
    other_bundle: int = 0
    """Packets that were made with another bundle than ours, so that they cannot be decoded here."""
    too_far: int = 0
    """Packets whose frame number is too far ahead to be believed; the sender's next one shows whether it was right."""
    unsealed: int = 0
    """Packets that the stream's key did not open, or that came before the birth message with the salt."""
    repeated: int = 0
    """Layers that had come before: acknowledged again, shown once."""
    undecodable: int = 0
    """Frames with a well-formed packet whose content could not be decoded."""
    missing_reference: int = 0
    """Inter frames whose reference is not here; their sender was asked for a keyframe."""
    dropped: int = 0
    """Frames dropped because a newer one came before a decoder was free."""
    base_alone: int = 0
    """Frames of which only the base layer came, too soon after a fuller one to replace it."""
    kept: int = 0
    """Promised frames that are on our disk."""
    not_kept: int = 0
    """Promised frames that the disk did not take; their sender keeps them and sends them again."""
