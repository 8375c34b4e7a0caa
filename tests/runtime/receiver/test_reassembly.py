"""Inbox and reassembly without a network: messages in, acknowledgements and frames out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox
from runtime.receiver.reassembly import Reassembly

TOPICS = Topics()


def packet(frame=0, epoch=1, layers=4, time_ms=0):
    chunks = tuple(bytes([frame % 256, layer]) * (layer + 1) for layer in range(layers))
    return Packet(7, epoch, frame, time_ms, 64, 48, 100, layers, 0, chunks)


@pytest.fixture
def acks():
    return []


@pytest.fixture
def box(acks):
    return Inbox(topics=TOPICS, bundle_ids=[7], acknowledge=lambda ack, _: acks.append(ack), backlog=2)


def deliver(box, whole, layers=None):
    for part in whole.split()[:layers]:
        box.take(TOPICS.layer(part.first_layer), part.to_bytes())


def test_a_whole_frame_is_acknowledged_layer_by_layer_and_waits(box, acks):
    deliver(box, packet(5))
    assert [(ack.epoch, ack.frame, ack.layer) for ack in acks] == [(1, 5, layer) for layer in range(4)]
    assert box.pop() == packet(5)
    assert box.pop() is None


def test_a_frame_cut_short_waits_when_the_next_begins(box):
    deliver(box, packet(1), layers=2)
    assert box.pop() is None
    deliver(box, packet(2), layers=1)
    assert box.pop() == packet(1).prefix(2)
    deliver(box, replace(packet(3), time_ms=packet(1).time_ms + 1000), layers=1)
    assert box.pop() is None  # the base layer alone of 2: 1 was fuller, and as new
    box.flush()
    assert box.pop().frame == 3  # and now 1 is too old
    assert box.counters.base_alone == 1


def test_bad_messages_cost_a_counter_each_and_nothing_else(box, acks):
    base, second = packet(3).split()[:2]
    box.take(TOPICS.layer(0), b"")
    box.take(TOPICS.layer(0), b"\xe5" * 100)
    box.take(TOPICS.layer(1), base.to_bytes())  # wrong topic
    box.take(TOPICS.layer(1), replace(second, promised=True).to_bytes())  # those travel whole
    box.take(TOPICS.layer(0), replace(base, bundle_id=8).to_bytes())
    box.take(TOPICS.base, base.to_bytes())
    assert (box.counters.malformed, box.counters.other_bundle, acks) == (5, 1, [])
    box.take(TOPICS.layer(0), base.to_bytes())
    box.take(TOPICS.layer(1), replace(second, width=65).to_bytes())  # contradicts the base layer
    assert box.counters.malformed == 6
    deliver(box, packet(3))
    assert box.pop() == packet(3)


@given(st.sampled_from([TOPICS.layer(0), TOPICS.layer(3), "x"]), st.binary(max_size=60))
def test_no_bytes_make_the_inbox_raise(topic, payload):
    box = Inbox(topics=TOPICS, bundle_ids=[7], acknowledge=lambda *_: None)
    box.take(topic, payload)
    assert box.counters.malformed + box.counters.layers == 1


def test_when_decoding_falls_behind_the_oldest_frame_is_dropped(box):
    for frame in range(4):
        deliver(box, packet(frame))
    assert box.counters.dropped == 2
    assert [box.pop().frame for _ in range(2)] == [2, 3]


def test_a_repeated_layer_is_acknowledged_again_but_counts_once(box, acks):
    deliver(box, packet(1))
    deliver(box, packet(1))
    assert len(acks) == 8
    assert box.pop() is not None
    assert box.pop() is None


def test_late_layers_of_an_older_frame_change_nothing():
    reassembly = Reassembly()
    old, new = packet(1).split(), packet(2).split()
    reassembly.add(old[0])
    assert reassembly.add(new[0]) == [packet(1).prefix(1)]
    assert reassembly.add(old[1]) == []
    assert reassembly.flush() == [packet(2).prefix(1)]


def test_a_sender_that_starts_anew_is_followed():
    reassembly = Reassembly()
    for part in packet(1000).split():
        reassembly.add(part)
    finished = [frame for part in packet(0, epoch=2).split() for frame in reassembly.add(part)]
    assert finished == [packet(0, epoch=2)]


def test_a_frame_without_its_base_layer_comes_to_nothing():
    reassembly = Reassembly()
    reassembly.add(packet(1).split()[1])
    assert reassembly.flush() == []


def test_layers_in_another_order_make_the_same_frame():
    reassembly = Reassembly()
    finished = [frame for part in reversed(packet(9).split()) for frame in reassembly.add(part)]
    assert finished == [packet(9)]


def test_parts_of_a_frame_that_disagree_are_refused():
    reassembly = Reassembly()
    base, second = packet(1).split()[:2]
    reassembly.add(base)
    with pytest.raises(PacketError):
        reassembly.add(replace(second, q=3))
    assert reassembly.flush() == [packet(1).prefix(1)]
