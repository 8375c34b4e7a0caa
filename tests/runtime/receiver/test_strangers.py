"""What strangers on the broker can do to an unsealed receiver: numbers, names, memory, two senders under one name."""

import threading
import time

import pytest

from edgesem.codec.latent import Latent
from edgesem.errors import PacketError
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver import stream_table
from runtime.receiver.frame_order import FrameOrder
from runtime.receiver.inbox import Inbox
from runtime.receiver.options import Limits
from runtime.receiver.sender_conflict import SenderConflict
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.streams import Streams
from tests.support.publishing import birth, identity, plain

TOPICS = Topics("home", "cam", "main")


def streams_of(**options):
    return Streams(bundle_id=7, publish=lambda *_: None, **options)


def deliver(streams, packet, device="cam", stream="main"):
    topics = Topics("home", device, stream)
    for part in packet.split():
        streams.on_message(topics.layer(part.first_layer), part.to_bytes())


class Camera:
    """An unsealed camera, its receiver's inbox, and a clock that it moves on."""

    def __init__(self):
        self.now_s, self.number = 100.0, 0
        self.box = Inbox(topics=TOPICS, bundle_id=7, acknowledge=lambda *_: None)
        self.box._order._clock = lambda: self.now_s

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
        assert camera.films(10) >= 7
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


def test_the_birth_of_a_stream_that_is_heard_is_subscribed_to_once_and_by_its_name():
    asked = []
    streams = streams_of(
        key=bytes(32), ask_birth=asked.append, stream_filter=StreamFilter(["+/+/+", "home/named/main"])
    )
    for _ in range(3):
        deliver(streams, plain(), device="cam")  # sealed or not: it cannot be opened
        deliver(streams, plain(), device="named")
    assert asked == [TOPICS.birth]


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
    import numpy as np

    deliver(streams, plain(number), device=device)
    stream, packet = streams.next_frame(0)
    values = np.zeros((96, 3, 4), np.float32)
    streams.hold(stream, packet, Latent(values, 64, 48, 100))
    streams.done(stream, decode_s=0.0, good=True)
    return stream


def test_all_reference_latents_together_are_bounded_and_a_silent_stream_loses_its_own_first():
    size_bytes = 96 * 3 * 4 * 4
    streams = streams_of(references=True, limits=Limits(reference_bytes=6 * size_bytes))
    silent, live = ([latent_of(streams, device, n) for n in range(3)][-1] for device in ("silent", "live"))
    assert len(silent.references) == len(live.references) == 3
    silent.heard_s -= 60
    latent_of(streams, "live", 3)
    assert (len(silent.references), len(live.references)) == (0, 4)
    for number in range(4, 30):
        latent_of(streams, "live", number)
        latent_of(streams, "other", number)
    held = [stream.references.size_bytes for stream in streams.all()]
    assert sum(held) <= 6 * size_bytes
    assert min(size for size, stream in zip(held, streams.all(), strict=True) if stream is not silent) > 0


def test_two_senders_under_one_name_are_told():
    streams, whos = streams_of(), [identity(), identity()]
    borns = [birth(sealed=False, start=start) for start in (5, 9)]
    for _ in range(3):
        for who, born in zip(whos, borns, strict=True):
            streams.on_message(TOPICS.birth, born.to_bytes(who, base=TOPICS.base))
    (stream,) = streams.all()
    assert stream.has_two_senders
    assert stream.inbox.counters.malformed == 0


def test_packets_of_two_senders_are_told_and_a_restart_is_not():
    now = [0.0]
    conflict = SenderConflict(lambda: now[0])
    for epoch in (1, 1, 2, 2, 3, 2, 3):  # late packets of the start before
        conflict.note(epoch)
    assert not conflict.seen
    assert [conflict.note(epoch) for epoch in (2, 3, 2)] == [True, False, False]
    now[0] += 3600
    assert not conflict.seen


def test_a_packet_of_another_bundle_is_counted_by_that_name():
    streams = streams_of()
    streams.on_message(TOPICS.birth, birth(sealed=False, bundle_id=8).to_bytes(identity(), base=TOPICS.base))
    deliver(streams, plain(bundle_id=8))
    counters = streams.all()[0].inbox.counters
    assert (counters.other_bundle, counters.malformed) == (4, 0)


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
