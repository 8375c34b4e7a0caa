"""Promised frames that come in pieces: put together, acknowledged as a whole, and what disturbs that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.packet.seal import Seal
from runtime.protocol.piece import MAX_PIECE_BYTES, Piece
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox
from runtime.receiver.piece_assembly import PieceAssembly
from tests.support.publishing import plain

TOPICS = Topics()
PACKET = plain(5, promised=True)
SEAL = Seal(bytes(32), stream=TOPICS.base, salt=bytes(16))


def pieces(data, size_bytes=7, packet=PACKET):
    made = []
    while not made or not made[-1].is_last:
        offset = made[-1].end if made else 0
        made.append(Piece.cut(data, epoch=packet.epoch, frame=packet.frame, offset=offset, size_bytes=size_bytes))
    return made


class Bench:
    """An inbox whose disk the test plays."""

    def __init__(self, sealed=False):
        self.acks, self.orders = [], []
        self.box = Inbox(
            topics=TOPICS,
            bundle_ids=(7,),
            acknowledge=lambda ack, _: self.acks.append(ack),
            keep=lambda packet, settle: self.orders.append((packet, settle)),
            sealed=sealed,
        )
        if sealed:
            self.box.seals.offer(b"k" * 32, SEAL)

    def take(self, piece, sign=None):
        data = piece.to_bytes()
        return self.box.take(TOPICS.piece, data if sign is None else sign.sign(data, TOPICS.piece))

    def kept(self):
        """The packets that the disk was given since the last call, now kept."""
        given, self.orders[:] = list(self.orders), []
        for _, settle in given:
            settle(True, True, lambda: True)
        return [packet for packet, _ in given]


def test_pieces_become_one_frame_that_is_acknowledged_once():
    bench = Bench()
    cut = pieces(PACKET.to_bytes())
    assert len(cut) > 5
    assert all(bench.take(piece) for piece in cut[:-1])
    assert (bench.kept(), bench.acks) == ([], [])
    assert bench.take(cut[-1])
    assert bench.kept() == [PACKET]
    assert [(ack.frame, ack.layer, ack.kept) for ack in bench.acks] == [(5, 0, 1)]
    assert bench.box.pop() == PACKET
    assert bench.box.counters.kept == 1


def test_what_was_lost_comes_with_the_next_try_however_that_is_cut():
    bench = Bench()
    first = pieces(PACKET.to_bytes(), 7)
    for piece in first[:3] + first[4:]:
        bench.take(piece)
    assert bench.kept() == []
    for piece in pieces(PACKET.to_bytes(), 11):
        bench.take(piece)
    assert bench.kept() == [PACKET]


def test_a_sender_that_begins_again_hears_at_once_that_it_is_here():
    bench = Bench()
    cut = pieces(PACKET.to_bytes())
    for piece in cut:
        bench.take(piece)
    bench.kept()
    bench.take(cut[0])
    (_, settle) = bench.orders.pop()
    settle(True, False, lambda: True)  # the disk has it
    assert [ack.kept for ack in bench.acks] == [1, 1]
    for piece in cut[1:]:
        bench.take(piece)
    assert bench.orders == []
    assert bench.box.counters.kept == 1


def test_two_frames_in_turn_are_both_put_together():
    bench, other = Bench(), plain(6, promised=True)
    both = zip(pieces(PACKET.to_bytes()), pieces(other.to_bytes(), packet=other), strict=True)
    for one, two in both:
        bench.take(one)
        bench.take(two)
    assert bench.kept() == [PACKET, other]


def test_bytes_of_a_stranger_among_them_do_not_stand_in_the_next_tries_way():
    bench = Bench()
    cut = pieces(PACKET.to_bytes())
    bad = Piece(cut[1].epoch, cut[1].frame, cut[1].checksum, cut[1].size_bytes, cut[1].offset, b"stranger"[:7])
    for piece in [cut[0], bad, *cut[1:]]:
        bench.take(piece)
    assert bench.kept() == []
    assert bench.box.counters.malformed == 1
    for piece in cut:
        bench.take(piece)
    assert bench.kept() == [PACKET]


def test_in_a_sealed_stream_only_the_key_can_add_a_piece():
    bench = Bench(sealed=True)
    cut = pieces(SEAL.seal(PACKET.to_bytes()), 11)
    stranger = Seal(bytes(31) + b"x", stream=TOPICS.base, salt=bytes(16))
    for piece in cut[:-1]:
        assert bench.take(piece, SEAL)
        bad = Piece(piece.epoch, piece.frame, piece.checksum, piece.size_bytes, piece.end, b"bad")
        assert not bench.take(bad)
        assert not bench.take(bad, stranger)
    assert bench.take(cut[-1], SEAL)
    assert bench.kept() == [PACKET]


def test_a_stranger_pays_for_the_memory_that_his_pieces_take():
    bench = Bench()
    for frame in range(1000):
        bench.take(Piece(1, frame, 9, 262_144, 0, b"x"))
        bench.take(Piece(1, frame, 9, 262_144, 262_000, b"x" * 100))
    held = bench.box._pieces._packets
    assert sum(map(len, held.values())) <= 2


def test_a_piece_out_of_the_middle_of_other_frames_does_not_disturb_one_that_is_under_way():
    bench = Bench()
    cut = pieces(PACKET.to_bytes())
    for piece in cut:
        bench.take(piece)
        for frame in range(100, 104):
            bench.take(Piece(1, frame, 9, 500, 7, b"x"))
    assert bench.kept() == [PACKET]


def test_recordings_of_the_beginnings_of_others_do_not_put_out_the_one_that_grows():
    bench, cut = Bench(), pieces(PACKET.to_bytes())
    assert bench.take(cut[0])
    for number, piece in enumerate(cut[1:]):
        bench.take(Piece(1, 100 + number % 3, 9, 500, 0, b"x"))  # again and again, of three frames
        bench.take(piece)
    assert bench.kept() == [PACKET]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_message_that_is_longer_than_any_piece_is_not_even_hashed(monkeypatch, sealed):
    bench = Bench(sealed=sealed)
    monkeypatch.setattr(Seal, "verify", lambda *_: pytest.fail("the tag of a message of any size was computed"))
    assert not bench.box.take(TOPICS.piece, bytes(MAX_PIECE_BYTES + 17))
    assert bench.box.counters.malformed == 1


PACKETS = {1: bytes(range(24)) + b"one" * 9, 2: bytes(range(1, 25)) + b"two" * 20, 3: bytes(range(2, 26)) + b"3" * 7}
STRANGE = st.builds(
    Piece,
    st.just(1),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(24, 90),
    st.integers(0, 80),
    st.binary(max_size=30),
)
TRUE = st.builds(
    lambda frame, offset, size: Piece.cut(PACKETS[frame], epoch=1, frame=frame, offset=offset, size_bytes=size),
    *(st.integers(1, 3), st.integers(0, 90), st.integers(1, 90)),
)


@given(st.lists(st.one_of(STRANGE, TRUE), max_size=40), st.integers(1, 30))
def test_whatever_came_a_packet_that_comes_whole_is_here_and_costs_no_more_than_was_sent(history, size_bytes):
    assembly, sent_bytes = PieceAssembly(), 0
    for piece in history:
        if not piece.data or piece.end > piece.size_bytes:
            continue  # the parser refuses it
        sent_bytes += len(piece.data)
        whole = assembly.add(piece)
        assert whole is None or len(whole) == piece.size_bytes
        held = assembly._packets.values()
        assert len(held) <= 2
        assert sum(map(len, held)) <= sent_bytes
    found = []
    for _ in range(2):  # at the latest with the second try: a stranger may have spoilt the first
        offset = 0
        while offset < len(PACKETS[1]):
            piece = Piece.cut(PACKETS[1], epoch=1, frame=1, offset=offset, size_bytes=size_bytes)
            found.append(assembly.add(piece))
            offset = piece.end
    assert PACKETS[1] in found
