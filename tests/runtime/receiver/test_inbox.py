"""One stream's inbox: what is acknowledged when, what waits, and what strangers' bytes cost."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox
from runtime.receiver.reassembly import Reassembly
from tests.support.publishing import plain

TOPICS = Topics()
KEY, SALT = bytes(range(32)), bytes(16)


def inbox(acks, **options):
    return Inbox(topics=TOPICS, bundle_ids=[7], acknowledge=lambda ack, _: acks.append(ack), **options)


def deliver(box, packet, layers=None):
    for part in packet.split()[:layers]:
        box.take(TOPICS.layer(part.first_layer), part.to_bytes())


def promised(number=0, **changes):
    return plain(number, promised=True, **changes)


def unclaimed():
    """Nobody else has taken the frame for a decoder."""
    return True


def test_a_promised_frame_comes_whole_and_is_acknowledged_as_kept_only_when_it_is():
    acks, orders = [], []
    box = inbox(acks, keep=lambda packet, settle: orders.append((packet, settle)))
    assert box.take(TOPICS.layer(0), promised(5).to_bytes())
    assert acks == []
    ((packet, settle),) = orders
    settle(True, True, unclaimed)
    assert [(ack.frame, ack.layer, ack.kept) for ack in acks] == [(5, 0, 1)]
    assert box.pop() == packet
    assert box.counters.kept == 1


def test_a_promised_frame_that_the_disk_refuses_is_not_acknowledged_and_may_come_again():
    acks, orders = [], []
    box = inbox(acks, keep=lambda packet, settle: orders.append(settle))
    box.take(TOPICS.layer(0), promised().to_bytes())
    orders.pop()(False, False, unclaimed)
    assert (acks, box.pop(), box.counters.not_kept) == ([], None, 1)
    box.take(TOPICS.layer(0), promised().to_bytes())
    orders.pop()(True, True, unclaimed)
    assert box.pop() is not None


def test_a_promise_from_before_its_senders_bundle_was_changed_is_kept_and_not_drawn():
    acks, orders = [], []
    box = inbox(acks, keep=lambda packet, settle: orders.append(settle))
    assert box.take(TOPICS.layer(0), promised(bundle_id=8).to_bytes())
    orders[0](True, True, unclaimed)
    assert [ack.kept for ack in acks] == [1]
    assert (box.waiting, box.counters.kept, box.other_bundle) == (0, 1, None)
    viewer = inbox(acks)  # who keeps nothing can do nothing
    viewer.take(TOPICS.layer(0), promised(bundle_id=8).to_bytes())
    assert (len(acks), viewer.waiting, viewer.counters.other_bundle) == (1, 0, 1)


def test_a_promised_frame_that_was_kept_before_is_acknowledged_again_and_not_shown():
    acks, orders = [], []
    box = inbox(acks, keep=lambda packet, settle: orders.append(settle))
    box.take(TOPICS.layer(0), promised().to_bytes())
    orders.pop()(True, False, unclaimed)
    assert [ack.kept for ack in acks] == [1]
    assert box.pop() is None
    assert box.counters.repeated == 1


def test_a_viewer_acknowledges_a_promised_frame_as_seen_and_shows_it_once():
    acks = []
    box = inbox(acks)
    for _ in range(2):
        box.take(TOPICS.layer(0), promised().to_bytes())
    assert [ack.kept for ack in acks] == [0, 0]
    assert box.pop() is not None
    assert box.pop() is None


def test_promised_frames_do_not_give_way_to_newer_ones_and_take_turns_with_them():
    box = inbox([], backlog=1)
    for number in range(3):
        box.take(TOPICS.layer(0), promised(number).to_bytes())
    for number in range(10, 13):
        deliver(box, plain(number))
    assert [box.pop().frame for _ in range(4)] == [12, 0, 1, 2]
    assert box.counters.dropped == 2


def test_ordinary_frames_come_before_promised_ones_every_other_time():
    box = inbox([], backlog=2)
    for number in (1, 2):
        deliver(box, plain(number))
        box.take(TOPICS.layer(0), promised(100 + number).to_bytes())
    assert [box.pop().frame for _ in range(4)] == [1, 101, 2, 102]


def test_no_more_promised_frames_wait_than_there_is_room_for():
    box = inbox([])
    for number in range(200):
        box.take(TOPICS.layer(0), promised(number).to_bytes())
    assert box.waiting == 64
    assert box.counters.dropped == 136


def test_a_frame_that_stays_incomplete_is_shown_after_a_while():
    box, whole = inbox([]), plain(1)
    deliver(box, whole, layers=2)
    due_s = box.release_incomplete(0.0, 0.3)
    assert box.waiting == 0
    box.release_incomplete(due_s, 0.3)
    assert box.pop() == whole.prefix(2)
    assert box.release_incomplete(due_s + 9, 0.3) is None
    deliver(box, plain(2), layers=1)
    assert box.pop() is None  # there was nothing new in the old one


def test_layers_after_an_early_look_complete_the_frame():
    box, whole = inbox([]), plain(1)
    deliver(box, whole, layers=1)
    box.release_incomplete(box.release_incomplete(0.0, 0.3), 0.3)
    assert box.pop() == whole.prefix(1)
    for part in whole.split()[1:]:
        box.take(TOPICS.layer(part.first_layer), part.to_bytes())
    assert box.pop() == whole
    assert box.counters.dropped == 0


def test_one_who_subscribes_to_two_layers_has_a_frame_with_two():
    box, whole = inbox([], layers=2), plain(1)
    deliver(box, whole, layers=2)
    assert box.pop() == whole.prefix(2)


def test_a_frame_larger_than_allowed_is_refused_and_not_acknowledged():
    acks = []
    box = inbox(acks, max_pixels=64 * 48 - 1)
    deliver(box, plain())
    assert (acks, box.counters.malformed) == ([], 4)


def test_a_sealed_stream_takes_only_what_its_key_has_sealed():
    acks, seal = [], Seal(KEY, stream=TOPICS.base, salt=SALT)
    box = inbox(acks, sealed=True)
    sealed = [seal.seal(part.to_bytes()) for part in plain(1).split()]
    box.take(TOPICS.layer(0), sealed[0])
    assert box.counters.unsealed == 1  # no birth yet
    box.seals.offer(b"device", seal)
    strangers = Seal(bytes(32), stream=TOPICS.base, salt=SALT)
    box.take(TOPICS.layer(0), plain(1).split()[0].to_bytes())
    box.take(TOPICS.layer(0), strangers.seal(plain(1).split()[0].to_bytes()))
    assert (box.counters.unsealed, acks) == (3, [])
    for layer, message in enumerate(sealed):
        box.take(TOPICS.layer(layer), message)
    assert box.pop().frame == 1
    box.take(TOPICS.layer(0), sealed[0])  # recorded and sent again
    assert box.pop() is None
    assert box.counters.repeated == 1


def test_another_devices_birth_does_not_take_the_seal_away_and_a_later_start_does():
    seal, other, later = (Seal(KEY, stream=TOPICS.base, salt=bytes([number]) * 16) for number in range(3))
    box = inbox([], sealed=True)
    box.seals.offer(b"device", seal)
    box.take(TOPICS.layer(0), seal.seal(plain(1).split()[0].to_bytes()))
    box.seals.offer(b"another", other)
    box.take(TOPICS.layer(0), seal.seal(plain(2).split()[0].to_bytes()))
    assert box.counters.layers == 2
    box.take(TOPICS.layer(0), other.seal(plain(3).split()[0].to_bytes()))
    assert box.counters.layers == 3
    box.seals.offer(b"device", later)
    box.take(TOPICS.layer(0), seal.seal(plain(4).split()[0].to_bytes()))  # recorded
    assert (box.counters.layers, box.counters.unsealed) == (3, 1)
    box.take(TOPICS.layer(0), later.seal(plain(5).split()[0].to_bytes()))
    assert box.counters.layers == 4


@given(st.sampled_from([TOPICS.layer(0), TOPICS.layer(3), "x"]), st.binary(max_size=200), st.booleans())
def test_no_bytes_make_an_inbox_raise(topic, payload, sealed):
    acks = []
    box = inbox(acks, sealed=sealed, limited_log=SILENT)
    box.seals.offer(b"device", Seal(KEY, stream=TOPICS.base, salt=SALT))
    assert box.take(topic, payload) == (box.counters.malformed == 0)
    assert bool(acks) == (box.counters.layers > 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0, 1])), max_size=40))
def test_whatever_the_order_each_frame_comes_at_most_once_and_never_backwards(order):
    box, frames = inbox([], backlog=100), []
    for number, layer, epoch in order:
        part = plain(number, epoch=epoch, time_ms=1000 * epoch + number).split()[layer]
        box.take(TOPICS.layer(layer), part.to_bytes())
    box.flush()
    while (packet := box.pop()) is not None:
        frames.append((packet.epoch, packet.frame))
    assert len(set(frames)) == len(frames)
    # Of each start in order. Where they come in turn, they are two senders, and none holds up the other.
    for epoch in (0, 1):
        numbers = [number for start, number in frames if start == epoch]
        assert all(before < after for before, after in pairwise(numbers))


def test_a_frame_that_waits_is_replaced_by_more_of_it():
    box, whole = inbox([]), plain(2)
    deliver(box, plain(1))
    deliver(box, whole, layers=1)
    box.release_incomplete(box.release_incomplete(0.0, 0.3), 0.3)
    for part in whole.split()[1:]:
        box.take(TOPICS.layer(part.first_layer), part.to_bytes())
    assert [box.pop().frame, box.pop()] == [1, whole]
    assert box.pop() is None


def test_parts_that_contradict_each_other_are_found_out_without_the_base_layer():
    reassembly, parts = Reassembly(), plain(1).split()
    reassembly.add(parts[2])
    with pytest.raises(ValueError, match="does not fit"):
        reassembly.add(replace(parts[1], q=3))


class _Log:
    def __init__(self):
        self.lines = []

    def log(self, _level, message, *details, **_):
        self.lines.append(message % details)


SILENT = RateLimitedLog(_Log())  # type: ignore[arg-type]


@pytest.mark.parametrize("pieces", [(4,), (1, 3), (2, 2), (1, 1, 2), (3, 1)])
def test_layers_that_share_a_message_make_the_same_frame(pieces):
    acks, whole, first = [], plain(1), 0
    box = inbox(acks)
    for count in pieces:
        part = replace(whole, first_layer=first, chunks=whole.chunks[first : first + count])
        assert box.take(TOPICS.layer(first), part.to_bytes())
        first += count
    assert box.pop() == whole
    assert len(acks) == len(pieces)
    assert box.counters.layers == 4
    for part in whole.split():  # and what comes once more is not shown again
        box.take(TOPICS.layer(part.first_layer), part.to_bytes())
    box.flush()
    assert box.pop() is None
    assert box.counters.repeated == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 2)), max_size=12))
def test_however_layers_are_put_together_no_frame_is_shown_with_fewer_than_before(messages):
    box, shown = inbox([], backlog=50), {}
    for first, count, number in messages:
        whole = replace(plain(number), time_ms=number)
        part = replace(whole, first_layer=first, chunks=whole.chunks[first : first + count])
        box.take(TOPICS.layer(first), part.to_bytes())
        box.release_incomplete(float("inf"), 0)
        while (packet := box.pop()) is not None:
            assert packet == replace(plain(packet.frame), time_ms=packet.frame).prefix(len(packet.chunks))
            assert len(packet.chunks) > shown.get(packet.frame, 0)
            shown[packet.frame] = len(packet.chunks)
    assert box.counters.malformed == 0
