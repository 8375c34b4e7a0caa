"""Assembly of promised packets that come in pieces: what is here of them, until they are whole."""

from __future__ import annotations

from collections import OrderedDict

from runtime.protocol.piece import Piece, checksum_of

_MOST = 2
"""Packets of a stream that are under way: a sender sends one after the other."""

_About = tuple[int, int, int, int]
"""Epoch, frame, checksum and size."""


class PieceAssembly:
    """Assembly of one stream's packets from their pieces. Not thread-safe.

    Of each packet its beginning is here, without gaps, so that no more memory is used than was sent: pieces come in
    order, and what is lost comes again with the next try. A packet that is whole stays for one try more: a sender that
    begins it again has not heard that it is here, and is to hear it before it has sent all of it. Another packet takes
    the place of the one that has not grown for longest; only its first piece does.
    """

    def __init__(self) -> None:
        self._packets: OrderedDict[_About, bytearray] = OrderedDict()

    def add(self, piece: Piece) -> bytes | None:
        """Take a piece; the packet's bytes if it completes them, or if it begins a packet that is whole here."""
        about = piece.epoch, piece.frame, piece.checksum, piece.size_bytes
        packet = self._packets.get(about)
        if packet is None:
            if piece.offset:
                return None
            packet = self._packets[about] = bytearray()
            if len(self._packets) > _MOST:
                self._packets.popitem(last=False)
        if len(packet) == piece.size_bytes:
            if piece.offset:
                return None
            del self._packets[about]
        elif piece.offset <= len(packet) < piece.end:
            packet[piece.offset :] = piece.data
            self._packets.move_to_end(about)
        if len(packet) < piece.size_bytes:
            return None
        if checksum_of(packet) != piece.checksum:  # bytes of somebody else are among them
            self._packets.pop(about, None)
            return None
        return bytes(packet)

    def forget(self, piece: Piece) -> None:
        """Begin this piece's packet anew: what was here did not open."""
        self._packets.pop((piece.epoch, piece.frame, piece.checksum, piece.size_bytes), None)
