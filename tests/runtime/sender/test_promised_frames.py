"""Promised frames in the sender pipeline: on disk until a receiver keeps them; in an outage, what is due is kept."""

import contextlib
import time

import numpy as np
import pytest

from edgesem.errors import UsageError
from edgesem.packet.capture_time import full_time_ms
from runtime.sender.semantic_trigger import TriggerDecision
from runtime.sender.spool import Spool
from tests.support.sender_bench import Bench, Control, SimulatedSender


def test_a_snapshot_is_a_promised_frame_of_the_size_asked_for(make):
    bench = make(promises=True)
    bench.sender.connected()
    bench.offer("seen")
    for _ in range(4):
        bench.next()[1]()
    bench.command("snapshot", size_bytes=5000)
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
    bench.promise(2000)
    bench.expect("promised")
    confirm()
    part, confirm = bench.next()
    assert part.promised
    confirm()


def test_a_full_spool_is_told_and_the_frame_goes_as_an_ordinary_one(tmp_path):
    spool = Spool(tmp_path / "a.spool", max_bytes=65536)
    bench = Bench(spool=spool, budget_bytes=9000)
    for _ in range(40):
        bench.promise(8000)
    refused = bench.expect("refused")
    state = bench.sender.state()
    assert state.promised_refused >= 1
    bench.sender.connected()
    seen = [bench.next()[0] for _ in range(4)]
    assert refused["frame"] not in [part.frame for part in seen if part.promised]
    bench.sender.__exit__()
    spool.close()


def test_what_a_full_spool_refuses_is_told_from_a_promised_frame_in_each_layer(tmp_path):
    """A receiver takes a promised frame in one message only, and would keep its base layer as if that were all."""
    spool = Spool(tmp_path / "a.spool", max_bytes=65536)
    bench = Bench(spool=spool, budget_bytes=9000)
    bench.sender.connected()
    for _ in range(40):
        bench.promise(8000)
    refused, layers = bench.expect("refused")["frame"], 0
    while layers < 4:
        part, confirm = bench.next()
        if part.frame == refused:
            assert not part.promised
            layers += len(part.chunks)
        confirm()
    bench.sender.__exit__()
    spool.close()


def test_a_sender_without_a_spool_promises_nothing(make):
    with pytest.raises(UsageError, match="spool"):
        make().promise()


@pytest.fixture
def film(tmp_path):
    """Makes senders in simulated time, of 50 frames a second."""
    with contextlib.ExitStack() as stack:
        spool = Spool(tmp_path / "film.spool", max_bytes=10**6)
        stack.callback(spool.close)
        yield lambda **more: SimulatedSender(control=Control(interval_s=0.02), spool=spool, connected=False, **more)


def promised(film, count):
    """How many of the next frames are promised."""
    return sum(event["event"] == "promised" for event in film.show(count))


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


def test_in_an_outage_each_frame_that_is_due_is_promised(film):
    film = film(promise_every=10)
    film.pipeline.connected(0.01)
    assert promised(film, 100) == 10
    film.pipeline.disconnected()
    assert promised(film, 100) == 10
    film.pipeline.connected(0.01)
    assert promised(film, 100) == 10


def test_before_the_first_connection_and_without_room_frames_are_promised_too(film):
    film = film(promise_every=10)
    assert promised(film, 50) == 5
    film.pipeline.connected(0.01)
    film.control.budget = None
    assert promised(film, 100) == 10


def test_in_an_outage_each_frame_is_looked_at_and_what_is_found_is_promised(film):
    trigger = SeesATruck()
    film = film(trigger=trigger)
    film.pipeline.connected(0.01)
    film.show(20)
    film.pipeline.disconnected()
    looked = trigger.looked
    assert promised(film, 100) == 10
    assert trigger.looked - looked == 100
    assert film.pipeline.state().promised_waiting >= 10


def test_paused_nothing_is_promised_but_a_snapshot_that_is_asked_for(film):
    film = film(promise_every=10)
    film.pipeline.connected(0.01)
    film.show(1)
    film.command("pause")
    assert promised(film, 30) == 0
    film.command("snapshot", size_bytes=5000)
    assert promised(film, 1) == 1
    assert "packed" not in [event["event"] for event in film.show(30)]
    film.command("resume")
    assert "packed" in [event["event"] for event in film.show(5)]


def test_while_an_analyzed_frame_waits_for_room_the_thread_counts_as_alive(film):
    film = film(trigger=SeesATruck())
    film.pipeline.connected(0.01)
    film.show(1)
    film.control.budget = None
    film.show(1)
    for _ in range(100):
        film.now_s += 1.0
        film.pipeline.encode_step()
    assert film.now_s - film.pipeline.beat_s < 2


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
    handle = bench.promise()
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


def test_a_promised_frame_that_the_broker_refuses_is_set_aside_by_name(make):
    now = [0.0]
    bench = make(promises=True, start=False, clock=lambda: now[0])
    bench.sender.connected()
    bench.promise()
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
