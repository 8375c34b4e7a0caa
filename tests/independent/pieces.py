"""Reads pieces of promised packets, and puts them together (protocol.md, section 11.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.independent.packet import HEADER_BYTES, MOST_BYTES
from tests.independent.refusal import RefusedError
from tests.independent.seal import TAG_BYTES

HEAD = struct.Struct("<BBHIIII")


@dataclass(frozen=True)
class Piece:
    """A piece, and the packet that it is of."""

    epoch: int
    frame: int
    checksum: int
    size_bytes: int
    offset: int
    data: bytes


def read_piece(message: bytes) -> Piece:
    """A piece, without its tag."""
    if len(message) <= HEAD.size:
        raise RefusedError("short", f"{len(message)} bytes")
    magic, version, epoch, frame, checksum, size_bytes, offset = HEAD.unpack_from(message)
    if magic != 0xE6:
        raise RefusedError("magic")
    if version != 0x10:
        raise RefusedError("version")
    piece = Piece(epoch, frame, checksum, size_bytes, offset, message[HEAD.size :])
    if not HEADER_BYTES <= piece.size_bytes <= MOST_BYTES + TAG_BYTES:
        raise RefusedError("size", f"{piece.size_bytes} bytes")
    if piece.offset + len(piece.data) > piece.size_bytes:
        raise RefusedError("beyond", f"{piece.offset} + {len(piece.data)} bytes of {piece.size_bytes}")
    return piece


class Assembly:
    """The beginnings of all packets that come in pieces."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int, int, int], bytes] = {}

    def add(self, piece: Piece) -> bytes | None:
        """Take a piece; the packet, as it would stand in a message, when all of it is here."""
        packet = piece.epoch, piece.frame, piece.checksum, piece.size_bytes
        begun = self._begun.pop(packet, b"")
        if piece.offset <= len(begun) < piece.offset + len(piece.data):
            begun = begun[: piece.offset] + piece.data
        if len(begun) == piece.size_bytes:
            return begun
        self._begun[packet] = begun
        return None
