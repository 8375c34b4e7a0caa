"""All streams of a receiver: who is decoded next, who is let in, and what strangers can do to the others."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.errors import UsageError
from edgesem.packet.seal import Seal
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox
from runtime.receiver.options import Limits
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.stream_filter import StreamFilter
from runtime.receiver.streams import Streams
from tests.support.publishing import birth, identity, plain, wait_for

KEY = bytes(range(32))


def streams_of(published=None, **options):
    published = [] if published is None else published

    def publish(topic, payload, qos):
        if payload:  # an empty command asks for the birth
            published.append((topic, payload))

    return Streams(bundle_ids=[7], publish=publish, **options)


def deliver(streams, packet, device="cam", stream="main"):
    topics = Topics("home", device, stream)
    for part in [packet] if packet.promised else packet.split():
        streams.on_message(topics.layer(part.first_layer), part.to_bytes())


def test_each_stream_is_acknowledged_on_its_own_topic():
    published = []
    streams = streams_of(published)
    deliver(streams, plain(3), device="a")
    deliver(streams, plain(4), device="b")
    assert {(topic, Ack.from_bytes(payload).frame) for topic, payload in published} == {
        ("edgesem/v1/home/a/main/ack", 3),
        ("edgesem/v1/home/b/main/ack", 4),
    }


def test_a_device_that_floods_gets_its_share_and_no_more():
    streams, served = streams_of(), []
    for number in range(100):
        for stream in range(8):  # eight streams, each frame ten times as much work
            deliver(streams, plain(number), device="hostile", stream=str(stream))
        deliver(streams, plain(number), device="modest")
        while len(served) < 2 * number:
            stream, _ = streams.next_frame(0)
            served.append(stream.topics.device)
            streams.done(stream, decode_s=1.0 if stream.topics.device == "hostile" else 0.1, good=True)
    # Every frame of the modest one was decoded, however much the other had sent.
    assert served.count("modest") >= 97


def test_a_device_that_was_silent_has_saved_up_nothing():
    streams = streams_of(limits=Limits(backlog=50))
    for number in range(30):
        deliver(streams, plain(number), device="busy")
        stream, _ = streams.next_frame(0)
        streams.done(stream, decode_s=1.0, good=True)
    for number in range(20):
        deliver(streams, plain(100 + number), device="busy")
        deliver(streams, plain(number), device="late")
    served = []
    for _ in range(10):
        stream, _ = streams.next_frame(0)
        served.append(stream.topics.device)
        streams.done(stream, decode_s=1.0, good=True)
    assert served.count("busy") in (4, 5, 6)


def test_no_device_has_all_decoders_at_once():
    streams = streams_of(decoders=2)
    for stream in range(4):
        deliver(streams, plain(1), device="hostile", stream=str(stream))
    first, _ = streams.next_frame(0)
    assert streams.next_frame(0) is None
    deliver(streams, plain(1), device="modest")
    assert streams.next_frame(0)[0].topics.device == "modest"
    streams.done(first, decode_s=1.0, good=True)
    assert streams.next_frame(0)[0].topics.device == "hostile"


def test_a_stream_is_with_one_decoder_at_a_time():
    streams = streams_of(decoders=8)
    deliver(streams, plain(1))
    deliver(streams, plain(2))
    stream, _ = streams.next_frame(0)
    assert streams.next_frame(0) is None
    streams.done(stream, decode_s=0.1, good=True)
    assert streams.next_frame(0)[1].frame == 2


def test_a_waiting_decoder_is_woken_by_a_frame():
    streams, taken = streams_of(), []
    thread = threading.Thread(target=lambda: taken.append(streams.next_frame(30)))
    thread.start()
    deliver(streams, plain(1))
    thread.join(20)
    assert taken[0][1].frame == 1


def test_streams_whose_frames_are_whole_are_not_looked_through(monkeypatch):
    looked, look = [], Inbox.release_incomplete
    monkeypatch.setattr(Inbox, "release_incomplete", lambda self, *given: looked.append(self) or look(self, *given))
    streams = streams_of(patience_s=0.0)
    for number in range(50):
        deliver(streams, plain(1), device=f"cam{number}")
    while (job := streams.next_frame(0)) is not None:
        streams.done(job[0], decode_s=0.0, good=True)
    looked.clear()
    deliver(streams, plain(2, total_layers=4, chunks=(b"base", b"more")), device="cam7")
    assert streams.next_frame(0)[1].frame == 2
    assert [inbox.waiting for inbox in looked] == [0]


def test_an_incomplete_frame_is_ready_after_its_patience():
    streams = streams_of(patience_s=0.05)
    topics = Topics("home", "cam", "main")
    streams.on_message(topics.layer(0), plain(1).split()[0].to_bytes())
    assert len(streams.next_frame(20)[1].chunks) == 1


def test_there_are_no_more_streams_than_there_may_be():
    streams = streams_of(limits=Limits(streams=5, streams_per_device=3))
    for number in range(10):
        deliver(streams, plain(), device="a", stream=str(number))
    for number in range(10):
        deliver(streams, plain(), device=f"b{number}")
    assert len(streams.all()) == 5
    assert streams.strays > 0


def test_a_stream_exists_from_its_first_good_message_on():
    streams = streams_of()
    streams.on_message("edgesem/v1/home/cam/main/pkt/0", b"nothing")
    streams.on_message("edgesem/v1/home/cam/main/something", b"")
    streams.on_message("elsewhere", b"")
    assert streams.all() == []
    assert streams.strays == 3
    streams.on_message("edgesem/v1/home/cam/main/pkt/0", plain(bundle_id=8).split()[0].to_bytes())
    assert [stream.inbox.other_bundle for stream in streams.all()] == [8]  # so that it can be said of it


def test_a_state_is_noted_and_a_broken_one_is_not():
    streams = streams_of()
    base = "edgesem/v1/home/cam/main"
    streams.on_message(f"{base}/state", State(True, 1, 5, capacity_bps=64_000, budget_bytes=900).to_bytes())
    streams.on_message(f"{base}/state", b"\xa1\x61u\xf5")
    (stream,) = streams.all()
    assert stream.state.capacity_bps == 64_000
    assert stream.inbox.counters.malformed == 1
    assert stream.history.since(0)[0]["budget_bytes"] == 900


@pytest.mark.parametrize(
    ("fps", "state_interval_s", "silent_s"),
    [(1.0, 10.0, 60), (0.01, 10.0, 300), (1.0, 300.0, 900), (5e-324, 10.0, 86_400), (0.0, 10.0, 60)],
)
def test_a_sender_is_silent_when_what_it_said_it_would_send_has_long_not_come(fps, state_interval_s, silent_s):
    streams, topics = streams_of(), Topics("home", "cam", "main")
    streams.on_message(topics.state, State(True, 1, 0, interval_s=state_interval_s).to_bytes())
    born = replace(birth(sealed=False), fps=fps)
    streams.on_message(topics.birth, born.to_bytes(identity(), base=topics.base))
    (stream,) = streams.all()
    stream.heard_s -= silent_s - 1
    assert not stream.absence
    stream.heard_s -= 2
    assert stream.absence == "nothing is heard from the sender"


def test_a_sealed_stream_opens_with_its_birth_and_its_acks_are_signed():
    published, who = [], identity()
    streams, born, base = streams_of(published, key=KEY), birth(sealed=True), "edgesem/v1/home/cam/main"
    seal = Seal(KEY, stream=base, salt=born.salt)
    message = seal.seal(plain(1).split()[0].to_bytes())
    streams.on_message(f"{base}/pkt/0", message)
    assert published == []
    streams.on_message(f"{base}/birth", born.to_bytes(who, base=base, key=KEY))
    streams.on_message(f"{base}/pkt/0", message)
    ((topic, payload),) = published
    assert Ack.from_bytes(seal.verify(payload, topic)).frame == 1


def test_an_old_birth_and_one_that_is_not_sealed_are_refused():
    streams, who, base = streams_of(key=KEY), identity(), "edgesem/v1/home/cam/main"
    new, old = birth(sealed=True, start=2), birth(sealed=True, start=1)
    for born in (new, old, birth(sealed=False, start=3)):
        streams.on_message(f"{base}/birth", born.to_bytes(who, base=base, key=KEY))
    (stream,) = streams.all()
    assert stream.birth.salt == new.salt
    assert stream.inbox.counters.malformed == 2


def test_promised_frames_of_an_earlier_run_are_drawn(tmp_path):
    published = []
    with PromisedStore(tmp_path) as promised_store:
        deliver(streams_of(published, promised_store=promised_store), plain(5, promised=True))
    assert [Ack.from_bytes(payload).kept for _, payload in published] == [1]
    again = streams_of(promised_store=scanned(tmp_path))
    again.refill()
    stream, packet = again.next_frame(0)
    assert (stream.name, packet.frame) == ("home/cam/main", 5)


def scanned(folder):
    promised_store = PromisedStore(folder)
    promised_store.undrawn.scan()
    return promised_store


def keep(folder, device, numbers):
    """Frames that an earlier run has kept."""
    kept, topics = threading.Semaphore(0), Topics("home", device, "main")
    with PromisedStore(folder) as store:
        for number in numbers:
            store.put(topics, plain(number, promised=True, time_ms=number), lambda *_: kept.release())
            assert kept.acquire(timeout=20)


def test_all_kept_frames_are_drawn_in_time_however_many_and_whoever_has_more(tmp_path):
    keep(tmp_path, "many", range(150))
    keep(tmp_path, "others", range(3))
    for path in (tmp_path / "home" / "many").rglob("*.es"):
        if int(path.stem[-10:]) < 20:
            path.with_suffix(".png").touch()  # these have their picture
    store = scanned(tmp_path)
    streams, drawn = streams_of(promised_store=store), []
    for _ in range(133):
        streams.refill()
        stream, packet = streams.next_frame(0)
        assert stream.inbox.waiting <= 64
        drawn.append((stream.topics.device, packet.frame))
        streams.done(stream, decode_s=0.1, good=True)
        streams.mark_drawn(stream, packet)
    assert sorted(drawn) == [("many", n) for n in range(20, 150)] + [("others", n) for n in range(3)]
    assert drawn.index(("others", 2)) < 10  # nobody waits until the others are through
    assert [frame for device, frame in drawn if device == "many"] == list(range(20, 150))
    assert scanned(tmp_path).undrawn.streams() == []


def test_frames_that_are_kept_faster_than_they_are_drawn_wait_on_the_disk(tmp_path):
    published, drawn = [], []
    with PromisedStore(tmp_path) as store:
        streams = streams_of(published, promised_store=store)
        for number in range(100):
            deliver(streams, plain(number, promised=True))
            wait_for(lambda sent=number + 1: len(published) == sent)
        for _ in range(100):
            streams.refill()
            stream, packet = streams.next_frame(0)
            drawn.append(packet.frame)
            streams.done(stream, decode_s=0.1, good=True)
    assert sorted(drawn) == list(range(100))
    assert stream.inbox.counters.dropped == 0


def test_a_frame_that_is_read_from_the_disk_the_moment_it_is_there_is_drawn_once(tmp_path, monkeypatch):
    published, drawn = [], []
    with PromisedStore(tmp_path) as store:
        streams, add = streams_of(published, promised_store=store), store.undrawn.add

        def added(*args):
            add(*args)
            streams.refill()  # a decoder has nothing to do at this very moment

        monkeypatch.setattr(store.undrawn, "add", added)
        for number in range(3):
            deliver(streams, plain(number, promised=True))
            wait_for(lambda sent=number + 1: len(published) == sent)
        while (job := streams.next_frame(0)) is not None:
            drawn.append(job[1].frame)
            streams.done(job[0], decode_s=0.1, good=True)
    assert drawn == [0, 1, 2]


def test_promised_frames_in_memory_are_bounded_over_all_streams_and_none_is_lost_or_starved(tmp_path):
    published, drawn, devices = [], [], [f"cam{number}" for number in range(6)]
    size_bytes = plain(0, promised=True).size_bytes
    with PromisedStore(tmp_path) as store:
        streams = streams_of(published, promised_store=store, limits=Limits(promised_bytes=8 * size_bytes))
        for number in range(60):
            deliver(streams, plain(number, promised=True), device=devices[number % 6])
            wait_for(lambda sent=number + 1: len(published) == sent)
        held = [stream.inbox.queue.promised_bytes for stream in streams.all()]
        assert min(held) > 0
        assert sum(held) <= (8 + 6) * size_bytes
        while len(drawn) < 60:
            streams.refill()
            assert sum(stream.inbox.queue.promised for stream in streams.all()) <= 8 + 6 + 32
            stream, packet = streams.next_frame(0)
            drawn.append(packet.frame)
            streams.done(stream, decode_s=0.1, good=True)
    assert sorted(drawn) == list(range(60))
    assert {stream.inbox.queue.promised_bytes for stream in streams.all()} == {0}


def test_a_viewer_drops_a_streams_oldest_promised_frame_where_memory_ends():
    size_bytes = plain(0, promised=True).size_bytes
    streams = streams_of(limits=Limits(promised_bytes=3 * size_bytes))
    for number in range(10):
        deliver(streams, plain(number, promised=True), device="cam")
        deliver(streams, plain(number, promised=True), device="other")
    assert sum(stream.inbox.queue.promised_bytes for stream in streams.all()) <= 4 * size_bytes
    assert [stream.inbox.counters.dropped for stream in streams.all()] == [8, 9]


def test_nobody_waits_for_the_lock_while_the_disk_is_asked_for_a_kept_frame(tmp_path, monkeypatch):
    could_lock = []

    def attempt():
        could_lock.append(streams.lock.acquire(timeout=5))
        if could_lock[-1]:
            streams.lock.release()

    def asks_the_disk(topics, packet):
        other = threading.Thread(target=attempt)
        other.start()
        other.join()
        return tmp_path / "frame.es"

    published = []
    with PromisedStore(tmp_path) as store:
        streams = streams_of(published, promised_store=store)
        monkeypatch.setattr(store, "path_of", asks_the_disk)
        deliver(streams, plain(1, promised=True))
        wait_for(lambda: published)
    assert could_lock == [True]


topics_of_strangers = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["pkt/0", "pkt/3", "pkt/9", "pkt/", "birth", "state", "ack", "cmd", ""]).map(
        lambda rest: f"edgesem/v1/home/cam/main/{rest}"
    ),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(topics_of_strangers, st.binary(max_size=600)), max_size=8))
def test_no_message_makes_the_streams_raise(messages):
    streams = streams_of(key=KEY)
    for topic, payload in messages:
        streams.on_message(topic, payload)
    deliver(streams, plain(1))
    assert all(stream.name == "home/cam/main" or stream.birth for stream in streams.all())


@pytest.mark.parametrize("bad", ["", "a/b", "a/b/c/d", "a//c", "a/b#/c", "+a/b/c", "a/b/\0", "x" * 65 + "/b/c"])
def test_a_filter_that_is_none_is_refused(bad):
    with pytest.raises(UsageError):
        StreamFilter([bad])


def test_filters_take_the_layers_asked_for():
    assert StreamFilter(["home/+/main"], 2).topics() == [
        "edgesem/v1/home/+/main/birth",
        "edgesem/v1/home/+/main/state",
        "edgesem/v1/home/+/main/pkt/0",
        "edgesem/v1/home/+/main/pkt/1",
        "edgesem/v1/home/+/main/pkt/piece",
    ]
    assert StreamFilter(["+/+/+"]).topics()[-1] == "edgesem/v1/+/+/+/pkt/+"
    with pytest.raises(UsageError):
        StreamFilter([])


def test_a_receiver_of_few_layers_asks_for_them_alone_when_it_gets_more():
    published = []
    streams = streams_of(published, layers=1)
    topics = Topics("home", "cam", "main")
    streams.on_message(topics.layer(0), plain(1).split()[0].to_bytes())
    assert [topic for topic, _ in published] == [topics.ack]
    for number in (2, 3):
        streams.on_message(topics.layer(0), plain(number).to_bytes())
    asked = [Command.from_bytes(payload).kind for topic, payload in published if topic == topics.cmd]
    assert asked == ["apart"]  # once, for some time
    assert streams.next_frame(0) is not None
