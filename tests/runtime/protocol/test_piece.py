"""Pieces of promised packets: what is cut comes together again, and what is no piece is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.packet import HEADER_BYTES
from runtime.protocol.piece import PIECE_BYTES, Piece


def test_a_piece_has_the_layout_of_the_document():
    packet = bytes(range(60))
    piece = Piece.cut(packet, epoch=3, frame=0x01020304, offset=16, size_bytes=5)
    assert piece.to_bytes().hex() == "e610030004030201141516173c000000100000001011121314"
    assert len(piece.to_bytes()) == PIECE_BYTES + 5
    assert Piece.from_bytes(piece.to_bytes()) == piece
    assert (piece.end, piece.is_last) == (21, False)


@given(st.binary(min_size=HEADER_BYTES, max_size=500), st.integers(1, 600))
def test_pieces_have_all_of_a_packet_once(packet, size_bytes):
    pieces, offset = [], 0
    while offset < len(packet):
        message = Piece.cut(packet, epoch=1, frame=2, offset=offset, size_bytes=size_bytes).to_bytes()
        pieces.append(Piece.from_bytes(message))
        offset = pieces[-1].end
    assert b"".join(piece.data for piece in pieces) == packet
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        bytes(PIECE_BYTES),
        Piece(1, 2, 3, 100, 0, b"").to_bytes(),
        Piece(1, 2, 3, 100, 99, b"xx").to_bytes(),
        Piece(1, 2, 3, 23, 0, b"x").to_bytes(),
        Piece(1, 2, 3, 262_161, 0, b"x").to_bytes(),
        Piece(1, 2, 3, 100, 2**32 - 1, b"x").to_bytes(),
        b"\xe5" + Piece(1, 2, 3, 100, 0, b"x").to_bytes()[1:],
        b"\xe6\x20" + Piece(1, 2, 3, 100, 0, b"x").to_bytes()[2:],
    ],
)
def test_what_is_no_piece_is_refused(wrong):
    with pytest.raises(PacketError, match="piece"):
        Piece.from_bytes(wrong)


@given(st.binary(max_size=100))
def test_nothing_but_a_piece_or_a_packet_error_comes_of_any_bytes(data):
    try:
        piece = Piece.from_bytes(data)
    except PacketError:
        return
    assert piece.to_bytes() == data
