"""Piece of a promised packet: a cut of its bytes, for a link on which the whole would be one long message."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgesem.errors import PacketError
from edgesem.packet.packet import HEADER_BYTES, MAX_PACKET_BYTES
from edgesem.packet.seal import TAG_BYTES

PIECE_BYTES = 20
"""What a piece has besides its cut."""

_MAGIC, _VERSION = 0xE6, 0x10
_HEADER = struct.Struct("<BBHIIII")
_CHECKSUM = slice(HEADER_BYTES - 4, HEADER_BYTES)  # where a packet has it
_MOST_BYTES = MAX_PACKET_BYTES + TAG_BYTES
MAX_PIECE_BYTES = PIECE_BYTES + _MOST_BYTES
"""Of a piece as it stands in a message, without its tag."""


@dataclass(frozen=True)
class Piece:
    """Bytes `offset` to `offset + len(data)` of a packet, as that stands in a message (sealed, if the stream is).

    `u8 0xE6 | u8 0x10 | u16 epoch | u32 frame | u32 checksum | u32 size | u32 offset | data`, little-endian.
    """

    epoch: int
    frame: int
    checksum: int
    """That of the packet."""
    size_bytes: int
    """Of the packet."""
    offset: int
    data: bytes

    @classmethod
    def cut(cls, packet: bytes, *, epoch: int, frame: int, offset: int, size_bytes: int) -> Piece:
        """At most `size_bytes` of a packet's bytes, from `offset` on."""
        return cls(epoch, frame, checksum_of(packet), len(packet), offset, packet[offset : offset + size_bytes])

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.data)

    @property
    def is_last(self) -> bool:
        """Whether the packet ends with it."""
        return self.end == self.size_bytes

    def to_bytes(self) -> bytes:
        """The piece as it stands in a message."""
        about = self.epoch, self.frame, self.checksum, self.size_bytes, self.offset
        return _HEADER.pack(_MAGIC, _VERSION, *about) + self.data

    @classmethod
    def from_bytes(cls, message: bytes) -> Piece:
        """The piece that stands in `message`; PacketError for anything else, whatever the bytes are."""
        if not PIECE_BYTES < len(message) <= MAX_PIECE_BYTES:
            raise PacketError(f"not a piece of a packet: {len(message)} bytes")
        magic, version, epoch, frame, checksum, size_bytes, offset = _HEADER.unpack_from(message)
        if (magic, version) != (_MAGIC, _VERSION):
            raise PacketError(f"not a piece of a packet: it begins with {message[:2].hex()}")
        piece = cls(epoch, frame, checksum, size_bytes, offset, message[PIECE_BYTES:])
        if not HEADER_BYTES <= piece.size_bytes <= _MOST_BYTES or piece.end > piece.size_bytes:
            raise PacketError(f"piece: bytes {piece.offset} to {piece.end} of a packet of {piece.size_bytes}")
        return piece


def checksum_of(packet: bytes | bytearray) -> int:
    """The checksum that stands in a packet's header, sealed or not."""
    return int.from_bytes(packet[_CHECKSUM], "little")
