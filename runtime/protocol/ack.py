"""Acknowledgement: a receiver has a layer, or has decoded a frame and holds it; a CBOR list of 13 to 27 bytes.

A list and not a map like the other messages, because one goes back for each layer. A list that is longer is one of a
later program: what stands behind the items that are known here is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import cbor2

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS
from runtime.protocol.fields import load_cbor

MAX_ACK_BYTES = 64
_LIMITS = {
    "epoch": 0xFFFF,
    "frame": 0xFFFFFFFF,
    "layer": MAX_LAYERS - 1,
    "received_ms": 0xFFFFFFFF,
    "decode_ms": 0xFFFFFFFF,
    "kept": 1,
    "receiver": 0xFFFFFFFF,
    "held": MAX_LAYERS,
}


@dataclass(frozen=True)
class Ack:
    """Acknowledgement of one layer, or of a decoded frame. Raises PacketError if a field is out of its bounds."""

    epoch: int
    frame: int
    layer: int
    received_ms: int
    """When it came, in Unix milliseconds modulo 2^32, by the receiver's clock."""
    decode_ms: int
    """Decoding time of the receiver's latest picture, 0 before the first: how busy it is."""
    kept: int = 0
    """1 if the frame is on the receiver's disk: only then does the sender of a promised frame forget it."""
    receiver: int = 0
    """Receiver id, which each start of a receiver draws by lot; 0 from one that holds no references."""
    held: int = 0
    """From how many layers the receiver has decoded the frame, whose latent it holds as a reference; 0: it does not."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= limit:
                raise PacketError(f"ack: {name} is {value!r}, must be an integer from 0 to {limit}")

    def to_bytes(self) -> bytes:
        """The ack as it is published."""
        return cbor2.dumps([getattr(self, name) for name in _LIMITS])

    @classmethod
    def from_bytes(cls, data: bytes) -> Ack:
        """The ack that stands in `data`; PacketError for anything else, whatever the bytes are."""
        fields = load_cbor(data, what="ack", limit_bytes=MAX_ACK_BYTES)
        if not isinstance(fields, list) or len(fields) < len(_LIMITS):
            raise PacketError(f"not an ack: needs one list of {len(_LIMITS)} integers")
        return cls(*fields[: len(_LIMITS)])
