"""Promised frames on a thin link: in pieces, between live frames, each frame in its turn."""

import pytest

from edgesem.packet.packet import Packet
from runtime.protocol.piece import Piece
from tests.support.sender_bench import TOPICS


class ThinLink:
    """A bench on a link of 1 kbit/s, without threads, on a clock that the test holds, with a promised frame on disk."""

    def __init__(self, make, **options):
        self.now_s = 0.0
        self.bench = make(promises=True, start=False, clock=lambda: self.now_s, **options)
        self.bench.control.rate_bps = 1000
        self.bench.sender.connected()
        self.promise()

    def promise(self):
        self.bench.promise(5000)
        self.bench.encode()

    def sent(self):
        """What is published now: pieces, and what confirms them."""
        while self.bench.sender.publish_step():
            pass
        found = []
        while not self.bench.published.empty():
            topic, payload, confirm = self.bench.published.get()
            assert topic == TOPICS.piece
            assert len(topic) + len(payload) + 8 <= 512
            found.append((Piece.from_bytes(payload), confirm))
        return found


def test_on_a_thin_link_a_promised_frame_goes_in_pieces_and_is_kept_as_one(make):
    link = ThinLink(make, window_bytes=600)
    data, pieces, is_last = bytearray(), 0, False
    while not is_last:
        ((piece, confirm),) = link.sent()  # one after the other
        is_last, pieces = piece.is_last, pieces + 1
        data[piece.offset :] = piece.data
        link.now_s += 4
        confirm()
    packet = Packet.from_bytes(bytes(data))
    assert packet.promised
    assert pieces > 8
    assert link.sent() == []
    assert link.bench.control.in_flight == 0
    link.bench.acknowledge(packet, kept=1)
    link.bench.sender.publish_step()
    link.bench.acknowledge(packet, kept=1)  # another receiver keeps it too
    link.bench.sender.publish_step()
    events = [link.bench.events.get()["event"] for _ in range(link.bench.events.qsize())]
    assert events.count("kept") == 1
    assert events.count("sent") == 1
    assert link.bench.sender.state().promised_waiting == 0
    assert link.bench.sender.idle


def test_a_new_connection_goes_on_where_the_broker_has_confirmed(make):
    link = ThinLink(make)
    first = link.sent()
    for _, confirm in first[:3]:
        confirm()
    link.bench.sender.disconnected()
    assert link.sent() == []
    link.bench.sender.connected()
    again = link.sent()
    assert again[0][0].offset == first[3][0].offset
    assert again[-1][0].is_last
    link.now_s += 11  # nobody has said a word: it begins from the first byte
    for _, confirm in again:
        confirm()
    assert link.sent()[0][0].offset == 0


def in_turn(link, count):
    """Frame and bytes of the promised messages that go now, one after the other, each confirmed by the broker."""
    found = []
    for _ in range(count):
        assert link.bench.sender.publish_step()
        topic, payload, confirm = link.bench.published.get()
        message = Piece.from_bytes(payload) if topic == TOPICS.piece else Packet.from_bytes(payload)
        found.append((message.frame, topic == TOPICS.piece))
        confirm()
    return found


def test_a_newer_promised_frame_does_not_wait_for_the_pieces_of_an_older_one(make):
    link = ThinLink(make, window_bytes=600)
    assert in_turn(link, 3) == [(0, True)] * 3
    for _ in range(3):
        link.promise()
    assert in_turn(link, 6) == [(3, True), (0, True)] * 3  # the newest of them
    link.promise()
    assert in_turn(link, 6) == [(3, True), (0, True)] * 3  # and no third in pieces: a receiver holds two
    link.bench.control.rate_bps = 100_000  # now each is one message
    assert {frame for frame, _ in in_turn(link, 4)} == {0, 2, 3, 4}  # four, as no receiver has answered


@pytest.mark.parametrize("reconnected", [False, True])
def test_a_newer_frame_of_one_message_goes_in_turn_with_pieces(make, reconnected):
    link = ThinLink(make, window_bytes=600)
    in_turn(link, 3)
    for _ in range(2):
        link.bench.promise(256)
        link.bench.encode()
    if reconnected:
        link.bench.sender.disconnected()
        link.bench.sender.connected()
    assert in_turn(link, 4) == [(2, False), (0, True), (1, False), (0, True)]


def test_live_frames_go_between_the_pieces(make):
    link = ThinLink(make, window_bytes=1)
    ((_, confirm),) = link.sent()
    link.bench.offer()
    link.bench.encode()
    assert link.bench.published.empty()
    confirm()
    link.bench.sender.publish_step()
    assert link.bench.next()[0].first_layer == 0


def test_a_refused_piece_is_a_refused_frame_and_the_next_one_goes(make):
    link = ThinLink(make)
    refused = 0
    for _ in range(4):
        for _, confirm in link.sent()[:1]:
            confirm("Quota exceeded")
            refused += 1
        link.bench.sender.disconnected()
        link.bench.sender.connected()
        link.now_s += 60
    link.bench.sender.publish_step()
    assert refused == 3
    assert "Quota exceeded" in link.bench.expect("rejected")["reason"]
    assert link.sent() == []


def test_a_promised_frame_that_is_larger_than_the_broker_takes_goes_in_pieces(make):
    limit_bytes = [None]
    bench = make(promises=True, start=False, limit_bytes=lambda: limit_bytes[0])
    bench.promise(5000)
    bench.encode()
    limit_bytes[0] = 1000  # of another broker than when it was promised
    bench.sender.connected()
    while bench.sender.publish_step():
        pass
    messages = [bench.published.get() for _ in range(bench.published.qsize())]
    assert len(messages) > 4
    assert all(topic == TOPICS.piece and len(topic) + len(payload) + 16 <= 1000 for topic, payload, _ in messages)
