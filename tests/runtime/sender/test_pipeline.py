"""The sender pipeline against a link that the test plays: what it publishes when, and how it takes what comes back."""

import time
from dataclasses import replace

import numpy as np
import pytest

from edgesem.errors import BudgetError, LinkError, PacketError, UsageError
from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.capture.frame import Frame
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import Command
from runtime.protocol.piece import Piece
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.semantic_trigger import TriggerDecision
from runtime.sender.spool import Spool
from tests.support.sender_bench import TOPICS, WAIT_S, Bench, Codec, Control


@pytest.fixture
def make(tmp_path):
    made = []

    def make(*, promises=False, **more):
        spool = Spool(tmp_path / "a.spool", max_bytes=10**6) if promises else None
        made.append((Bench(spool=spool, **more), spool))
        return made[-1][0]

    yield make
    for bench, spool in made:
        bench.sender.__exit__()
        if spool is not None:
            spool.close()


def test_a_frame_goes_out_base_first_and_its_delay_is_told(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert [part.first_layer for part in parts] == [0, 1, 2, 3]
    for part in parts:
        bench.acknowledge(part)
        assert bench.expect("acked")["delay_s"] < WAIT_S
    state = bench.sender.state()
    assert (state.frames, state.skipped, state.sent_bytes > 1000, state.age_s < WAIT_S) == (1, 0, True, True)
    assert bench.sender.idle
    assert bench.control.in_flight == 0


def test_all_that_mqtt_adds_fits_into_the_budget(make):
    bench = make(budget_bytes=2000)
    bench.sender.connected()
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert sum(part.size_bytes + len(TOPICS.layer(0)) + 8 for part in parts) <= 2000


def test_nothing_is_taken_or_published_without_a_connection(make):
    bench = make()
    bench.offer("stale")
    bench.expect("skipped")
    bench.offer("fresh")
    bench.sender.connected()
    assert bench.expect("packed")["name"] == "fresh"


def test_what_the_broker_confirms_frees_the_window_and_counts_once(make):
    bench = make(window_bytes=800)
    bench.sender.connected()
    bench.offer()
    part, confirm = bench.next()
    _, confirm_1 = bench.next()
    assert bench.published.empty()
    confirm()
    bench.acknowledge(part)
    bench.next()
    assert bench.control.acks == 1
    confirm_1()


def test_layers_share_a_message_where_the_link_takes_them_in_a_moment_and_nobody_minds(make):
    bench = make()
    bench.sender.connected()
    bench.control.rate_bps = 10e6
    bench.offer()
    part, confirm = bench.next()
    assert (part.first_layer, len(part.chunks)) == (0, 4)
    confirm()
    bench.sender.on_message(TOPICS.cmd, Command("apart").to_bytes())  # a receiver of base layers, on a slower link
    bench.offer()
    parts = [bench.next()[0] for _ in range(4)]
    assert [(part.first_layer, len(part.chunks)) for part in parts] == [(0, 1), (1, 1), (2, 1), (3, 1)]
    assert {part.frame for part in parts} == {1}


def test_layers_that_wait_go_together_when_the_link_has_become_fast(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer()
    _, confirm = bench.next()
    bench.control.rate_bps = 10e6
    confirm()
    part, _ = bench.next()
    assert (part.first_layer, len(part.chunks)) == (1, 3)
    assert bench.published.empty()


def test_a_newer_frame_takes_the_place_of_the_layers_that_wait(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer("old")
    base, confirm = bench.next()
    bench.offer("new")
    assert bench.expect("dropped")["layers"] == 3
    confirm()
    newer, confirm = bench.next()
    assert (base.frame, newer.frame, newer.first_layer) == (0, 1, 0)
    assert bench.sender.state().dropped_layers == 3
    confirm()


def test_frames_are_skipped_and_not_made_worse_than_asked_for(make):
    bench = make(min_quality=20 / 255, budget_bytes=1500)
    bench.sender.connected()
    bench.offer("bad")
    bench.expect("skipped")
    while bench.sender.state().frames == 0:  # the floor rises until a frame is good enough
        bench.offer("next")
        bench.events.get(timeout=WAIT_S)
    assert bench.next()[0].q >= 20


def test_the_least_that_a_frame_needs_falls_when_the_scene_becomes_simpler(make):
    bench = make(budget_bytes=500)
    bench.control.min_bytes, needed = 400, 9000
    packed = bench.codec.pack

    def pack(latent, *, budget_bytes, options):
        if budget_bytes < needed:
            raise BudgetError("a fuller scene", smallest_bytes=needed)
        return packed(latent, budget_bytes=budget_bytes, options=options)

    bench.codec.pack = pack
    bench.sender.packer._least_bytes = 400
    bench.sender.connected()
    bench.offer()
    bench.expect("skipped")
    assert bench.control.min_bytes > 9000
    needed = 0
    before = bench.control.min_bytes
    for _ in range(5):
        bench.offer()
        bench.expect("packed")
    assert bench.control.min_bytes < 0.85 * before


def test_a_lost_link_is_tried_again_and_a_message_too_large_is_left_out(make):
    bench = make(fail=[LinkError("gone"), PacketError("too large")])
    bench.sender.connected()
    bench.offer()
    assert bench.next()[0].first_layer == 1
    assert bench.control.losses == 2


def test_a_reconnect_forgets_what_was_in_flight(make):
    bench = make(window_bytes=1)
    bench.sender.connected()
    bench.offer("before")
    _, confirm = bench.next()
    bench.sender.disconnected()
    bench.sender.connected()
    confirm()  # of the old connection: means nothing now
    bench.offer("after")
    assert bench.next()[0].frame == 1
    assert bench.control.acks == 0
    assert bench.sender.state().reconnects == 1


def test_a_broker_that_confirms_nothing_is_stuck(make):
    bench = make(ack_timeout_s=0.05)
    bench.sender.connected()
    bench.offer()
    assert "nothing was confirmed" in bench.stuck.get(timeout=WAIT_S)


def test_bad_messages_are_ignored(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    part, _ = bench.next()
    bench.sender.on_message(TOPICS.ack, b"\xff\xff")
    bench.sender.on_message(TOPICS.cmd, b"\xff\xff")
    bench.sender.on_message("else", b"")
    bench.acknowledge(replace(part, epoch=(part.epoch + 1) % 65536))
    bench.acknowledge(replace(part, frame=99))
    assert bench.sender.state().age_s is None
    assert bench.control.acks == 0


def test_a_sealed_sender_listens_to_who_has_the_key_alone(make):
    seal = Seal(bytes(32), stream=TOPICS.base, salt=bytes(16))
    bench = make(seal=seal)
    bench.sender.connected()
    bench.offer()
    _, payload, _ = bench.published.get(timeout=WAIT_S)
    part = Packet.from_bytes(seal.open(payload))
    bench.acknowledge(part)
    assert bench.sender.state().age_s is None
    ack = Ack(part.epoch, part.frame, 0, clock_ms(), 0)
    bench.sender.on_message(TOPICS.ack, seal.sign(ack.to_bytes(), TOPICS.ack))
    assert bench.sender.state().age_s is not None


def test_commands_are_obeyed_once(make):
    bench = make()
    bench.sender.connected()
    pause = Command("pause").to_bytes()
    bench.sender.on_message(TOPICS.cmd, pause)
    assert bench.sender.state().paused
    bench.sender.on_message(TOPICS.cmd, Command("resume").to_bytes())
    bench.sender.on_message(TOPICS.cmd, pause)
    assert not bench.sender.state().paused
    bench.sender.on_message(TOPICS.cmd, Command("roi", roi=(0.5, 0.5, 0.5, 0.25)).to_bytes())
    bench.offer(size=320)
    bench.next()
    assert bench.codec.shapes[-1] == (80, 160, 3)


def test_a_snapshot_is_a_promised_frame_of_the_size_asked_for(make):
    bench = make(promises=True)
    bench.sender.connected()
    bench.offer("seen")
    for _ in range(4):
        bench.next()[1]()
    bench.sender.on_message(TOPICS.cmd, Command("snapshot", size_bytes=5000).to_bytes())
    part, _ = bench.next()
    assert part.promised
    assert 4000 < part.size_bytes < 5000
    assert len(part.chunks) == 4
    bench.acknowledge(part, kept=1)
    assert bench.expect("kept")["frame"] == part.frame


def test_a_promised_frame_is_on_disk_until_somebody_keeps_it(make, tmp_path):
    bench = make(promises=True, promise_every=1)
    bench.offer()  # with no connection at all
    bench.expect("promised")
    bench.sender.connected()
    part, confirm = bench.next()
    confirm()
    bench.acknowledge(part)  # by a viewer, who keeps nothing
    assert bench.sender.state().promised_waiting == 1
    bench.sender.connected()
    again, _ = bench.next()
    assert again == part
    bench.acknowledge(again, kept=1)
    bench.expect("kept")
    assert bench.sender.state().promised_waiting == 0


def test_promised_frames_survive_their_sender_and_no_number_comes_twice(tmp_path):
    path = tmp_path / "a.spool"
    spool = Spool(path, max_bytes=10**6)
    first = Bench(spool=spool, promise_every=1)
    first.offer()
    about = first.expect("promised")
    first.sender.__exit__()
    spool.close()
    spool = Spool(path, max_bytes=10**6)
    second = Bench(spool=spool)
    assert second.sender.epoch != about["epoch"]
    second.sender.connected()
    part, _ = second.next()
    assert (part.epoch, part.frame, part.promised) == (about["epoch"], about["frame"], True)
    second.sender.__exit__()
    spool.close()


def test_promises_wait_for_live_base_layers_but_not_for_the_rest(make):
    bench = make(promises=True, window_bytes=1)
    bench.sender.connected()
    bench.offer()
    _, confirm = bench.next()
    bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), 2000)
    bench.expect("promised")
    confirm()
    part, confirm = bench.next()
    assert part.promised
    confirm()


def test_a_full_spool_is_told_and_the_frame_goes_as_an_ordinary_one(tmp_path):
    spool = Spool(tmp_path / "a.spool", max_bytes=65536)
    bench = Bench(spool=spool, budget_bytes=9000)
    for _ in range(40):
        bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), 8000)
    refused = bench.expect("refused")
    state = bench.sender.state()
    assert state.promised_refused >= 1
    bench.sender.connected()
    seen = [bench.next()[0] for _ in range(4)]
    assert refused["frame"] not in [part.frame for part in seen if part.promised]
    bench.sender.__exit__()
    spool.close()


def test_a_sender_without_a_spool_promises_nothing(make):
    with pytest.raises(UsageError, match="spool"):
        make().sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", 0))


class SimulatedTime:
    """A pipeline without threads, on a clock that the test moves; what is published is confirmed after `delay_s`."""

    def __init__(self, **options):
        self.now_s, self.delay_s, self.confirmations = 0.0, 0.05, []
        self.bench = Bench(start=False, clock=lambda: self.now_s, interval_s=0.1, **options)

    def run(self, seconds, step_s=0.001):
        """Let time pass, with a frame each 100 ms; returns what was published, as (time, frame, layer)."""
        published, pipeline = [], self.bench.sender
        for number in range(round(seconds / step_s)):
            self.now_s = number * step_s
            if number % round(0.1 / step_s) == 0:
                self.bench.offer(str(number))
            while self.confirmations and self.confirmations[0][0] <= self.now_s:
                self.confirmations.pop(0)[1]()
            while pipeline.encode_step():
                pass
            while pipeline.publish_step():
                pass
            while not self.bench.published.empty():
                part, confirm = self.bench.next()
                published.append((self.now_s, part.frame, part.first_layer))
                self.confirmations.append((self.now_s + self.delay_s, confirm))
        return published


def test_without_threads_it_is_stepped_in_simulated_time():
    world = SimulatedTime()
    assert not world.bench.sender.encode_step()  # nothing is there, and it does not wait
    assert not world.bench.sender.publish_step()
    world.bench.sender.connected()
    published = world.run(1.0)
    assert [frame for _, frame, layer in published if layer == 0] == list(range(10))
    assert max(abs(now_s - 0.1 * frame) for now_s, frame, _ in published) < 0.0015
    assert world.bench.sender.state().skipped == 0


def test_in_simulated_time_a_window_holds_layers_back_until_their_confirmation():
    world = SimulatedTime(window_bytes=1)
    world.bench.sender.connected()
    published = world.run(0.3)
    assert [(frame, layer) for _, frame, layer in published] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert [now_s for now_s, _, _ in published] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25], abs=0.0015)
    assert world.bench.sender.state().dropped_layers == 4


# Outages: what is due or asked for is kept by the time of its capture.


class Film:
    """A pipeline in simulated time: a frame each 20 ms, a link that is there or not."""

    def __init__(self, tmp_path, **options):
        self.now_s, self.events, self.published = 100.0, [], []
        self.spool = Spool(tmp_path / "film.spool", max_bytes=10**6)
        self.trigger = options.pop("trigger", None)
        self.sender = SenderPipeline(
            codec=Codec(),
            topics=TOPICS,
            control=Control(interval_s=0.02),
            publish=lambda topic, payload, confirm: self.published.append((topic, payload, confirm)),
            on_event=lambda event: self.events.append(event.as_dict()),
            options=PipelineOptions(**options),
            spool=self.spool,
            trigger=self.trigger,
            clock=lambda: self.now_s,
        )

    def show(self, count):
        """So many frames; what became of them, by the names of events."""
        before = len(self.events)
        for _ in range(count):
            self.now_s += 0.02
            self.sender.offer(Frame(np.zeros((64, 64, 3), np.uint8), "f", clock_ms()))
            while self.sender.encode_step():
                pass
            while self.sender.publish_step():
                pass
            for _, _, confirm in self.published:
                confirm()
            self.published.clear()
        return [event["event"] for event in self.events[before:]]


class SeesATruck:
    """A trigger that looks for a truck, which is there from the start."""

    queries = ()

    def __init__(self):
        self.looked = 0

    def look(self, latent, now_s, *, connected=True):
        self.looked += 1
        vector = np.zeros(128, np.float32)
        return TriggerDecision(True, self.looked % 10 == 0, 1.0, 1.0, "a truck", 1.0, vector, b"")

    def sent(self, frame, decision, now_s):
        pass

    def delivered(self, frame):
        pass


def test_in_an_outage_each_frame_that_is_due_is_promised(tmp_path):
    film = Film(tmp_path, promise_every=10)
    film.sender.connected(0.01)
    assert film.show(100).count("promised") == 10
    film.sender.disconnected()
    assert film.show(100).count("promised") == 10
    film.sender.connected(0.01)
    assert film.show(100).count("promised") == 10
    film.spool.close()


def test_before_the_first_connection_and_without_room_frames_are_promised_too(tmp_path):
    film = Film(tmp_path, promise_every=10)
    assert film.show(50).count("promised") == 5
    film.sender.connected(0.01)
    film.sender._control.budget = None
    assert film.show(100).count("promised") == 10
    film.spool.close()


def test_in_an_outage_each_frame_is_looked_at_and_what_is_found_is_promised(tmp_path):
    film = Film(tmp_path, trigger=SeesATruck())
    film.sender.connected(0.01)
    film.show(20)
    film.sender.disconnected()
    looked = film.trigger.looked
    events = film.show(100)
    assert film.trigger.looked - looked == 100
    assert events.count("promised") == 10
    assert film.sender.state().promised_waiting >= 10
    film.spool.close()


def test_paused_nothing_is_promised_but_a_snapshot_that_is_asked_for(tmp_path):
    film = Film(tmp_path, promise_every=10)
    film.sender.connected(0.01)
    film.show(1)
    film.sender.on_message(TOPICS.cmd, Command("pause").to_bytes())
    assert film.show(30).count("promised") == 0
    film.sender.on_message(TOPICS.cmd, Command("snapshot", size_bytes=5000).to_bytes())
    assert film.show(1).count("promised") == 1
    assert film.show(30).count("packed") == 0
    film.sender.on_message(TOPICS.cmd, Command("resume").to_bytes())
    assert "packed" in film.show(5)
    film.spool.close()


def test_while_an_analyzed_frame_waits_for_room_the_thread_counts_as_alive(tmp_path):
    film = Film(tmp_path, trigger=SeesATruck())
    film.sender.connected(0.01)
    film.show(1)
    film.sender._control.budget = None
    film.show(1)
    for _ in range(100):
        film.now_s += 1.0
        film.sender.encode_step()
    assert film.now_s - film.sender.beat_s < 2
    film.spool.close()


def test_a_promised_frame_carries_its_whole_capture_time(make):
    bench = make(promises=True, promise_every=1)
    bench.sender.connected()
    bench.offer()
    part, _ = bench.next()
    assert part.promised
    assert abs(full_time_ms(part, 0) - time.time() * 1000) < 60_000


def test_a_promised_frame_that_is_still_on_its_way_is_not_sent_again(make):
    now = [0.0]
    bench = make(promises=True, start=False, clock=lambda: now[0])
    bench.sender.connected()
    handle = bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()))
    while bench.sender.encode_step() or bench.sender.publish_step():
        pass
    part, confirm = bench.next()
    for _ in range(200):
        now[0] += 1.0
        bench.sender.publish_step()
    assert bench.published.empty()
    assert bench.control.in_flight > 0
    confirm()
    assert bench.control.in_flight == 0
    bench.acknowledge(part, kept=1)
    bench.sender.publish_step()
    assert handle.done


def test_what_the_broker_refuses_is_told_and_is_no_delivery(make):
    bench = make()
    bench.sender.connected()
    bench.offer()
    _, confirm = bench.next()
    confirm("Not authorized")
    told = bench.expect("denied")
    assert (told["topic"], told["reason"]) == (TOPICS.layer(0), "Not authorized")
    assert (bench.control.acks, bench.control.losses) == (0, 1)
    assert bench.sender.state().refused == 1


def test_a_promised_frame_that_the_broker_refuses_is_set_aside_by_name(make):
    now = [0.0]
    bench = make(promises=True, start=False, clock=lambda: now[0])
    bench.sender.connected()
    bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()))
    bench.sender.encode_step()
    for _ in range(100):
        now[0] += 1.0
        bench.sender.publish_step()
        while not bench.published.empty():
            bench.published.get()[2]("Quota exceeded")
    bench.sender.publish_step()
    assert "Quota exceeded" in bench.expect("rejected")["reason"]
    state = bench.sender.state()
    assert (state.promised_rejected, state.promised_waiting, state.refused) == (1, 0, 3)


def test_frames_fit_into_what_the_broker_takes(make):
    bench = make(budget_bytes=20_000, promises=True, limit_bytes=lambda: 2000)
    bench.sender.connected()
    bench.offer()
    part, _ = bench.next()
    assert bench.codec.budgets[-1] <= 2000
    bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()))
    while not part.promised:
        part, _ = bench.next()
    assert part.size_bytes <= 2000


def test_after_the_last_frame_number_a_new_epoch_begins(make):
    bench = make()
    bench.sender.connected()
    bench.sender.packer.frame = 2**32 - 1
    epoch = bench.sender.epoch
    bench.offer()
    last = [bench.next()[0] for _ in range(4)]
    bench.offer()
    first = [bench.next()[0] for _ in range(4)]
    assert {(part.epoch, part.frame) for part in last} == {(epoch, 2**32 - 1)}
    assert {(part.epoch, part.frame) for part in first} == {((epoch + 1) % 2**16, 0)}
    for part in first:
        bench.acknowledge(part)
    assert bench.sender.state().age_s is not None


def test_a_flood_of_good_commands_is_neither_obeyed_nor_logged_whole(make, caplog):
    caplog.set_level("INFO")
    now = [0.0]
    bench = make(start=False, clock=lambda: now[0])
    for _ in range(1000):
        bench.sender.on_message(TOPICS.cmd, Command("key").to_bytes())
    obeyed = [bench.events.get()["event"] for _ in range(bench.events.qsize())]
    assert obeyed == ["asked"] * 60
    assert len(caplog.records) < 5
    now[0] = 11.0
    bench.sender.on_message(TOPICS.cmd, Command("key").to_bytes())
    assert bench.expect("asked")["kind"] == "key"


@pytest.mark.parametrize("promised", [False, True])
def test_a_defect_of_the_link_does_not_lock_the_publisher(make, promised):
    bench = make(start=False, promises=True, fail=[RuntimeError("a defect")])
    bench.sender.connected()
    if promised:
        bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()))
        assert bench.sender.encode_step()
        step = bench.sender.publish_step
    else:
        bench.offer()
        step = bench.sender.encode_step
    with pytest.raises(RuntimeError, match="a defect"):
        step()
    assert bench.control.in_flight == 0
    deadline_s = time.monotonic() + WAIT_S
    while bench.published.empty() and time.monotonic() < deadline_s:
        bench.sender.publish_step()
    assert bench.next()[0].promised is promised


def test_a_receiver_without_our_bundle_is_told_of(make, caplog):
    bench = make(start=False)
    bench.sender.connected()
    for _ in range(3):
        bench.sender.on_message(TOPICS.cmd, Command("bundle", bundles=(0x4E88, 7)).to_bytes())
        assert bench.expect("other_bundle")["bundles"] == ("4e88", "0007")
    assert bench.sender.counters.other_bundle == 3
    assert caplog.text.count("a receiver cannot draw what is sent here") == 1


class ThinLink:
    """A bench on a link of 1 kbit/s, without threads, on a clock that the test holds, with a promised frame on disk."""

    def __init__(self, make, **options):
        self.now_s = 0.0
        self.bench = make(promises=True, start=False, clock=lambda: self.now_s, **options)
        self.bench.control.rate_bps = 1000
        self.bench.sender.connected()
        self.promise()

    def promise(self):
        self.bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), 5000)
        while self.bench.sender.encode_step():
            pass

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
        link.bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), 256)
        while link.bench.sender.encode_step():
            pass
    if reconnected:
        link.bench.sender.disconnected()
        link.bench.sender.connected()
    assert in_turn(link, 4) == [(2, False), (0, True), (1, False), (0, True)]


def test_live_frames_go_between_the_pieces(make):
    link = ThinLink(make, window_bytes=1)
    ((_, confirm),) = link.sent()
    link.bench.offer()
    while link.bench.sender.encode_step():
        pass
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
    bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), 5000)
    while bench.sender.encode_step():
        pass
    limit_bytes[0] = 1000  # of another broker than when it was promised
    bench.sender.connected()
    while bench.sender.publish_step():
        pass
    messages = [bench.published.get() for _ in range(bench.published.qsize())]
    assert len(messages) > 4
    assert all(topic == TOPICS.piece and len(topic) + len(payload) + 16 <= 1000 for topic, payload, _ in messages)


@pytest.mark.parametrize("promised", [False, True])
def test_a_defect_of_the_seal_does_not_lock_the_publisher(make, promised):
    class BrokenSeal(Seal):
        broken = True

        def seal(self, packet):
            if self.broken:
                self.broken = False
                raise RuntimeError("a defect")
            return super().seal(packet)

    seal = BrokenSeal(bytes(32), stream=TOPICS.base, salt=bytes(16))
    bench = make(start=False, promises=True, seal=seal)
    bench.sender.connected()
    if promised:
        bench.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()))
        assert bench.sender.encode_step()
    else:
        bench.offer()
    with pytest.raises(RuntimeError, match="a defect"):
        bench.sender.publish_step() if promised else bench.sender.encode_step()
    assert bench.control.in_flight == 0
    deadline_s = time.monotonic() + WAIT_S
    while bench.published.empty() and time.monotonic() < deadline_s:
        bench.sender.publish_step()
    assert Packet.from_bytes(seal.open(bench.published.get()[1])).promised is promised


def test_with_minutes_between_frames_no_layer_takes_longer_than_the_keep_alive(make):
    bench = make(interval_s=600, budget_bytes=30_000)
    bench.control.rate_bps = 1000
    bench.sender.connected()
    bench.offer()
    for _ in range(4):
        part, confirm = bench.next()
        assert 5 < 8 * part.size_bytes / 1000 < 15
        confirm()
