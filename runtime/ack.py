"""What a receiver says about one layer it has: CBOR `[epoch, frame, layer, received_ms, decode_ms]`, some 20 bytes."""

from __future__ import annotations

import io
from dataclasses import astuple, dataclass

import cbor2

from edgesem.errors import PacketError
from edgesem.packet import MAX_LAYERS

_MAX_BYTES = 64
_LIMITS = {
    "epoch": 0xFFFF,
    "frame": 0xFFFFFFFF,
    "layer": MAX_LAYERS - 1,
    "received_ms": 0xFFFFFFFF,
    "decode_ms": 0xFFFFFFFF,
}


@dataclass(frozen=True)
class Ack:
    """One layer has arrived. Raises PacketError if a field is out of its bounds."""

    epoch: int
    frame: int
    layer: int
    received_ms: int
    """When it came, in Unix milliseconds modulo 2^32, by the receiver's clock."""
    decode_ms: int
    """What the receiver's latest picture took to decode, 0 before the first: how busy it is."""

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= limit:
                raise PacketError(f"ack: {name} is {value!r}, must be an integer from 0 to {limit}")

    def to_bytes(self) -> bytes:
        """The ack as it is published."""
        return cbor2.dumps(list(astuple(self)))

    @classmethod
    def from_bytes(cls, data: bytes) -> Ack:
        """The ack that stands in `data`; PacketError for anything else, whatever the bytes are."""
        if len(data) > _MAX_BYTES:
            raise PacketError(f"not an ack: {len(data)} bytes, at most {_MAX_BYTES} can be")
        stream = io.BytesIO(data)
        try:
            fields = cbor2.load(stream)
        except Exception as error:  # a tag's decoder may raise anything; the bytes are a stranger's
            raise PacketError(f"not an ack: {type(error).__name__}") from error
        if not isinstance(fields, list) or len(fields) != len(_LIMITS) or stream.read(1):
            raise PacketError(f"not an ack: needs exactly one list of {len(_LIMITS)} integers")
        return cls(*fields)
