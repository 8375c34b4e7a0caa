"""What strangers on the broker can do to an unsealed receiver: numbers, names, memory, two senders under one name."""

import contextlib
import threading
import time
from dataclasses import replace

import pytest

from edgesem.errors import MissingReference, PacketError
from edgesem.packet.seal import Seal
from edgesem.packet.side_information import Reference, SideInformation
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver import stream_table
from runtime.receiver.birth_requests import BirthRequests
from runtime.receiver.frame_order import FrameOrder
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.inbox import Inbox
from runtime.receiver.options import Limits
from runtime.receiver.sender_conflict import SenderConflict
from runtime.receiver.sender_start import UnsealedStarts
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.streams import Streams
from tests.support.publishing import birth, identity, plain

TOPICS = Topics("home", "cam", "main")
LATENT_BYTES = 4000


def streams_of(**options):
    return Streams(bundle_ids=[7], publish=lambda *_: None, **options)


def deliver(streams, packet, device="cam", stream="main"):
    topics = Topics("home", device, stream)
    for part in packet.split():
        streams.on_message(topics.layer(part.first_layer), part.to_bytes())


class Camera:
    """An unsealed camera, its receiver's inbox, and a clock that it moves on."""

    def __init__(self):
        self.now_s, self.number = 100.0, 0
        self.box = Inbox(topics=TOPICS, bundle_ids=[7], acknowledge=lambda *_: None)
        self.box._unsealed = UnsealedStarts(clock=lambda: self.now_s)

    def take(self, packet):
        for part in packet.split():
            self.box.take(TOPICS.layer(part.first_layer), part.to_bytes())
        shown = self.box.pop()
        return None if shown is None else (shown.epoch, shown.frame)

    def films(self, frames, epoch=1):
        """So many frames, a second apart; the number of those that are shown."""
        shown = 0
        for _ in range(frames):
            self.now_s += 1
            self.number += 1
            shown += self.take(plain(self.number, epoch=epoch)) == (epoch, self.number)
        return shown


@pytest.mark.parametrize("number", [2**32 - 1, 70_000, 1000])
def test_a_strangers_packet_with_a_high_number_does_not_silence_a_stream(number):
    camera = Camera()
    assert camera.films(5) == 5
    for _ in range(3):
        camera.take(plain(number))
        assert camera.films(10) >= (7 if number == 1000 else 10)  # what is too far is not believed at all
    assert camera.films(10) == 10


def test_two_packets_far_ahead_do_not_silence_it_either():
    camera = Camera()
    assert camera.films(5) == 5
    camera.take(plain(2**32 - 3))
    camera.take(plain(2**32 - 2))
    assert camera.films(10) >= 7
    assert camera.films(10) == 10


def test_a_strangers_packet_of_another_epoch_and_a_far_time_does_not_silence_a_stream():
    camera = Camera()
    assert camera.films(5) == 5
    camera.take(plain(1, epoch=9, time_ms=(time.time_ns() // 1_000_000 + 2**31 - 10_000) % 2**32))
    assert camera.films(10) >= 7
    assert camera.films(10) == 10


def test_a_sender_that_was_not_heard_for_long_may_be_far_ahead():
    camera = Camera()
    assert camera.films(2) == 2
    camera.now_s, camera.number = camera.now_s + 86400, 5_000_000
    assert camera.films(3) == 3


def test_frames_that_come_twice_and_late_do_not_take_a_stream_back():
    camera, order = Camera(), FrameOrder(lambda: 0.0)
    assert camera.films(2000) == 2000
    for late in range(100, 110):
        assert camera.take(plain(late)) is None
        assert camera.films(1) == 1
    assert order.is_plausible(plain(5))


def test_invented_names_do_not_shut_a_newcomer_out(monkeypatch):
    monkeypatch.setattr(stream_table, "_UNSEEN_S", 0.0)
    streams = streams_of(limits=Limits(streams=8))
    deliver(streams, plain(), device="camera")
    streams.done(streams.next_frame(0)[0], decode_s=0.1, good=True)
    for number in range(20):
        deliver(streams, plain(), device=f"invented{number}")
    deliver(streams, plain(), device="newcomer")
    names = {stream.topics.device for stream in streams.all()}
    assert {"camera", "newcomer"} <= names
    assert len(names) == 8


def test_streams_named_in_full_always_have_a_place():
    wanted = StreamFilter(["+/+/+", "home/mine/main"])
    streams = streams_of(limits=Limits(streams=8), stream_filter=wanted)
    for number in range(20):
        deliver(streams, plain(), device=f"invented{number}")
    deliver(streams, plain(), device="mine")
    assert "home/mine/main" in {stream.name for stream in streams.all()}
    for number in range(20):
        deliver(streams, plain(), device=f"more{number}")
    assert streams.find("home/mine/main") is not None


def test_what_was_not_subscribed_to_is_a_stray():
    streams = streams_of(stream_filter=StreamFilter(["home/cam/main"]))
    deliver(streams, plain(), device="other")
    deliver(streams, plain(), device="cam")
    assert [stream.name for stream in streams.all()] == ["home/cam/main"]
    assert streams.strays == 4


def test_of_invented_births_four_are_remembered():
    streams = streams_of()
    for start in range(50):
        streams.on_message(TOPICS.birth, birth(sealed=False, start=start).to_bytes(identity(), base=TOPICS.base))
    (stream,) = streams.all()
    assert [one.start for one in stream.births.values()] == [46, 47, 48, 49]
    assert stream.birth_messages.keys() <= stream.births.keys()


def test_the_birth_of_a_stream_that_is_heard_is_subscribed_to_once_and_by_its_name():
    asked = []
    streams = streams_of(key=bytes(32), ask_birth=asked.append)
    for _ in range(3):
        deliver(streams, plain(), device="cam")  # sealed or not: it cannot be opened
    assert asked == [TOPICS.birth]


def test_a_sender_whose_birth_does_not_come_is_asked_three_times():
    published, now_s = [], [0.0]
    requests = BirthRequests(lambda topic: None, lambda *message: published.append(message), 1, lambda: now_s[0])
    for second in range(1000):
        now_s[0] = second
        requests.ask(TOPICS)
        requests.ask(Topics("home", "one-too-many", "main"))
        if published and published[-1] == (TOPICS.cmd, b"", 1):
            published[-1] = second
    assert published == [2, 30, 600]


def test_a_callback_that_raises_does_not_end_the_network_thread(monkeypatch):
    monkeypatch.setattr(stream_table, "_UNSEEN_S", 0.0)

    def fail(_):
        raise RuntimeError("a defect")

    streams = streams_of(limits=Limits(streams=1), on_forgotten=fail)
    deliver(streams, plain(), device="a")
    deliver(streams, plain(), device="b")
    assert [stream.topics.device for stream in streams.all()] == ["b"]


def test_nobody_waits_for_the_lock_while_a_forgotten_stream_is_put_away(monkeypatch):
    monkeypatch.setattr(stream_table, "_UNSEEN_S", 0.0)
    could_lock = []

    def put_away(_):
        def attempt():
            taken = streams.lock.acquire(timeout=5)
            could_lock.append(taken)
            if taken:
                streams.lock.release()

        other = threading.Thread(target=attempt)
        other.start()
        other.join()

    streams = streams_of(limits=Limits(streams=1), on_forgotten=put_away)
    deliver(streams, plain(), device="a")
    deliver(streams, plain(), device="b")
    assert could_lock == [True]


def latent_of(streams, device, number):
    deliver(streams, plain(number), device=device)
    stream, packet = streams.next_frame(0)
    streams.references.hold(stream, packet, HeldLatent(bytes(LATENT_BYTES), b"", 64, 48, 100, None))
    streams.done(stream, decode_s=0.0, good=True)
    return stream


def test_all_reference_latents_together_are_bounded_and_a_silent_stream_loses_its_own_first():
    streams = streams_of(references=True, limits=Limits(reference_bytes=6 * LATENT_BYTES))
    silent, live = ([latent_of(streams, device, n) for n in range(3)][-1] for device in ("silent", "live"))
    assert len(silent.references) == len(live.references) == 3
    silent.heard_s -= 60
    latent_of(streams, "live", 3)
    assert (len(silent.references), len(live.references)) == (0, 4)
    for number in range(4, 30):
        latent_of(streams, "live", number)
        latent_of(streams, "other", number)
    held = [stream.references.size_bytes for stream in streams.all()]
    assert sum(held) <= 6 * LATENT_BYTES
    assert min(size for size, stream in zip(held, streams.all(), strict=True) if stream is not silent) > 0


def test_what_is_older_than_what_frames_refer_to_is_forgotten():
    """A camera for a long time: each frame refers to the one two before it."""
    streams = streams_of(references=True)
    for number in range(40):
        side_info = SideInformation(reference=Reference(number - 2, 4)) if number > 1 else SideInformation()
        deliver(streams, plain(number, side_info=side_info))
        stream, packet = streams.next_frame(0)
        streams.references.find(stream, packet)
        streams.references.hold(stream, packet, HeldLatent(bytes(LATENT_BYTES), b"", 64, 48, 100, None))
        streams.done(stream, decode_s=0.0, good=True)
        assert len(stream.references) <= 3
    assert stream.reference_bytes == 3 * LATENT_BYTES
    assert stream.inbox.counters.missing_reference == 0


def test_two_senders_under_one_name_are_told():
    streams, whos = streams_of(), [identity(), identity()]
    borns = [birth(sealed=False, start=start) for start in (5, 9)]
    for _ in range(3):
        for who, born in zip(whos, borns, strict=True):
            streams.on_message(TOPICS.birth, born.to_bytes(who, base=TOPICS.base))
    (stream,) = streams.all()
    assert stream.has_two_senders
    assert stream.inbox.counters.malformed == 0


def packets_in_turn(mine, other):
    """The messages of two frames, layer by layer in turn."""
    return [part for parts in zip(mine.split(), other.split(), strict=True) for part in parts]


@pytest.mark.parametrize("behind_s", [0, 3600])
def test_what_two_senders_under_one_name_send_in_turn_is_kept_apart(behind_s):
    """Layer by layer in turn, the clock of one an hour behind: of both all frames are whole, and in order."""
    streams, shown = streams_of(), []
    for number in range(20):
        theirs = plain(500 + number, epoch=2)
        theirs = replace(theirs, time_ms=(theirs.time_ms - 1000 * behind_s) % 2**32)
        for part in packets_in_turn(plain(number), theirs):
            streams.on_message(TOPICS.layer(part.first_layer), part.to_bytes())
        while (job := streams.next_frame(0)) is not None:
            shown.append(job[1])
            streams.done(job[0], decode_s=0.0, good=True)
    (stream,) = streams.all()
    assert stream.has_two_senders
    assert [packet.frame for packet in shown if packet.epoch == 1] == list(range(20))
    assert [packet.frame for packet in shown if packet.epoch == 2] == list(range(500, 520))
    assert {len(packet.chunks) for packet in shown} == {4}


def test_two_sealed_senders_under_one_name_are_kept_apart():
    key, whos, borns = bytes(32), [identity(), identity()], [birth(sealed=True, start=start) for start in (1, 7)]
    streams, shown = streams_of(key=key), []
    for who, born in zip(whos, borns, strict=True):
        streams.on_message(TOPICS.birth, born.to_bytes(who, base=TOPICS.base, key=key))
    seals = [Seal(key, stream=TOPICS.base, salt=born.salt) for born in borns]
    for number in range(10):
        for index, part in enumerate(packets_in_turn(plain(number), plain(number))):  # the same numbers, too
            streams.on_message(TOPICS.layer(part.first_layer), seals[index % 2].seal(part.to_bytes()))
        while (job := streams.next_frame(0)) is not None:
            shown.append((job[1].frame, len(job[1].chunks)))
            streams.done(job[0], decode_s=0.0, good=True)
    assert shown == [(number, 4) for number in range(10) for _ in range(2)]
    assert streams.all()[0].has_two_senders


def test_inter_frames_of_two_senders_have_their_references():
    streams = streams_of(references=True)
    for number in range(20):
        for epoch in (1, 2):
            side_info = SideInformation(reference=Reference(number - 1, 4)) if number else SideInformation()
            for part in plain(number, epoch=epoch, side_info=side_info).split():
                streams.on_message(TOPICS.layer(part.first_layer), part.to_bytes())
            stream, packet = streams.next_frame(0)
            with contextlib.suppress(MissingReference):
                streams.references.find(stream, packet)
            streams.references.hold(stream, packet, HeldLatent(bytes(LATENT_BYTES), b"", 64, 48, 100, None))
            streams.done(stream, decode_s=0.0, good=True)
    assert stream.inbox.counters.missing_reference <= 6  # until two were seen
    assert len(stream.references) <= 24


def test_what_a_broker_still_held_of_a_start_that_ended_is_not_shown():
    camera = Camera()
    assert camera.films(3) == 3
    late = plain(camera.number + 1)
    assert camera.films(3, epoch=2) == 3
    assert camera.take(replace(late, time_ms=late.time_ms - 5000)) is None
    assert camera.films(3, epoch=2) == 3


def test_invented_epochs_hold_no_more_than_two_frames_in_memory():
    starts = UnsealedStarts()
    for epoch in range(30):
        packet = plain(1, epoch=epoch).split()[0]
        starts.of(packet).reassembly.add(packet)
    assert len(starts.all()) == 8
    assert sum(len(start.reassembly.flush()) for start in starts.all()) == 2


def test_packets_of_two_senders_are_told_and_a_restart_is_not():
    now = [0.0]
    conflict = SenderConflict(lambda: now[0])
    for epoch in (1, 1, 2, 2, 3, 2, 3):  # late packets of the start before
        conflict.note("packet", epoch)
    assert not conflict.seen
    assert [conflict.note("packet", epoch) for epoch in (2, 3, 2)] == [True, False, False]
    now[0] += 3600
    assert not conflict.seen


def test_a_packet_of_another_bundle_is_counted_by_that_name_and_its_sender_is_told():
    published = []
    streams = Streams(bundle_ids=[7, 9], publish=lambda topic, payload, _: published.append((topic, payload)))
    deliver(streams, plain(bundle_id=8))
    deliver(streams, plain(1, bundle_id=8))
    (stream,) = streams.all()
    assert (stream.inbox.counters.other_bundle, stream.inbox.counters.malformed, stream.inbox.waiting) == (8, 0, 0)
    ((topic, payload),) = published  # once a minute, and no acknowledgement
    assert topic == TOPICS.cmd
    assert Command.from_bytes(payload).bundles == (7, 9)
    deliver(streams, plain(2, bundle_id=9))
    assert (stream.inbox.other_bundle, stream.inbox.waiting) == (None, 1)


def test_the_sender_of_a_sealed_stream_is_told_too_and_by_the_key():
    key, born, published = bytes(range(32)), birth(sealed=True, bundle_id=8), []
    streams = Streams(bundle_ids=[7], publish=lambda topic, payload, _: published.append((topic, payload)), key=key)
    seal = Seal(key, stream=TOPICS.base, salt=born.salt)
    streams.on_message(TOPICS.birth, born.to_bytes(identity(), base=TOPICS.base, key=key))
    for part in plain(bundle_id=8).split():
        streams.on_message(TOPICS.layer(part.first_layer), seal.seal(part.to_bytes()))
    ((topic, payload),) = published
    assert Command.from_bytes(seal.verify(payload, topic)).bundles == (7,)


def test_no_cbor_tag_is_interpreted_before_a_key_was_seen():
    """A state is read before any key: a tag in it (here a date, and a big number) is refused, not decoded."""
    streams = streams_of(key=bytes(32))
    before = State(True, 1, 5).to_bytes()
    dated = b"\xa1\x61\x74\xc0\x74" + b"2026-11-30T06:00:00Z"
    large = b"\xa1\x61\x74\xc2\x59\x01\x00" + b"\xff" * 256
    for payload in (dated, large):
        streams.on_message(TOPICS.state, payload)
        with pytest.raises(PacketError, match="tag"):
            State.from_bytes(payload)
    assert State.from_bytes(before).up
    assert streams.strays == 2
