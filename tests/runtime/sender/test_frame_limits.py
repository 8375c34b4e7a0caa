"""Limits of ordinary frames that are set in the field: kept whatever the link bears, told in the state, taken back."""

from collections import Counter

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.packet.packet import Packet
from runtime.protocol.state import State
from runtime.sender.frame_limits import FrameLimits
from runtime.sender.spool import Spool
from tests.support.sender_bench import TOPICS, Control, SimulatedSender


class Film(SimulatedSender):
    """A sender in simulated time, on a link that bears all; a frame is offered each 0.1 s."""

    def __init__(self, **options):
        super().__init__(control=Control(interval_s=0.1, budget_bytes=12_000), **options)

    def run(self, seconds):
        """Sizes of the frames of so many seconds, with all that MQTT adds."""
        begin, sizes = len(self.messages), Counter()
        self.show(round(seconds / 0.1))
        for topic, payload in self.messages[begin:]:
            sizes[Packet.from_bytes(payload).frame] += len(topic) + len(payload)
        return list(sizes.values())

    def ask(self, **fields):
        return self.command("budget", **fields)

    @property
    def limits(self):
        """What the state tells."""
        state = State.from_bytes(self.pipeline.state().to_bytes())
        return state.max_bytes, state.max_rate_bps


def test_a_frame_has_no_more_than_was_asked_for_and_again_as_much_as_at_the_start():
    film = Film(max_bytes=9000)
    assert film.limits == (9000, 0)
    assert 8000 < max(film.run(2)) <= 9000
    film.ask(max_bytes=3000)
    assert film.limits == (3000, 0)
    assert 2500 < max(film.run(2)) <= 3000
    film.ask(max_bytes=11_000)  # more than at the start
    assert 10_000 < max(film.run(2)) <= 11_000
    film.ask(max_bytes=0)
    assert film.limits == (9000, 0)
    assert 8000 < max(film.run(2)) <= 9000


def test_the_limit_holds_also_where_frames_were_found_to_need_more():
    film = Film()
    film.control.min_bytes = 6000
    film.ask(max_bytes=2000)
    assert 1500 < max(film.run(2)) <= 2000


def test_the_rate_is_kept_and_used():
    film = Film()
    film.ask(max_rate_bps=24_000)
    assert film.limits == (30_000, 24_000)
    spent = sum(film.run(120))
    assert 0.9 * 120 * 3000 <= spent <= 120 * 3000 + 1500
    film.ask(max_rate_bps=0)
    assert film.limits == (30_000, 0)
    assert sum(film.run(2)) > 20 * 10_000


def test_a_rate_that_is_asked_for_again_and_again_is_kept():
    film, spent = Film(), 0
    for _ in range(60):
        film.ask(max_rate_bps=2000)
        spent += sum(film.run(0.5))
    assert spent <= 30 * 250 + 1500


def test_another_rate_holds_at_once():
    film = Film(max_rate_bps=10)
    assert len(film.run(5)) == 1  # which takes 20 minutes
    film.ask(max_rate_bps=100_000)
    assert len(film.run(5)) > 20


def test_a_thin_rate_has_fewer_frames_and_not_frames_of_nothing():
    film = Film()
    film.ask(max_rate_bps=1000)
    sizes = film.run(120)
    assert 9 <= len(sizes) <= 11
    assert min(sizes) > 1200
    film.ask(max_bytes=900)  # what is asked for goes before it
    assert 700 < max(film.run(60)[1:]) <= 900


def test_limits_that_are_asked_for_one_by_one_stay_and_a_command_counts_once():
    film = Film()
    film.ask(max_bytes=3000)
    first = film.ask(max_rate_bps=50_000)
    assert film.limits == (3000, 50_000)
    film.ask(max_rate_bps=0)
    film.pipeline.on_message(TOPICS.cmd, first)  # somebody plays it back
    film.ask()
    assert film.limits == (3000, 0)


def test_promised_frames_are_not_held_up(tmp_path):
    spool = Spool(tmp_path / "s.sqlite", max_bytes=10**6)
    film = Film(spool=spool, max_rate_bps=1000, max_bytes=600)
    film.run(1)
    film.command("snapshot", size_bytes=8000)
    assert 5000 < max(event["size_bytes"] for event in film.show(2) if event["event"] == "packed") <= 8000
    spool.close()


FRAMES = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1)), min_size=1, max_size=60)


@given(st.integers(256, 200_000), st.integers(1, 10**6), st.floats(0.01, 60), FRAMES)
def test_whatever_comes_when_neither_limit_is_passed(max_bytes, max_rate_bps, interval_s, frames):
    limits, now_s, began_s, spent, last = FrameLimits(max_bytes, max_rate_bps), 50.0, None, 0, 0
    for wait_s, share in frames:
        now_s += wait_s
        most_bytes = limits.frame_bytes(now_s, interval_s)
        if most_bytes is None:
            continue
        assert 256 <= most_bytes <= max_bytes
        began_s = now_s if began_s is None else began_s
        assert spent * 8 <= max_rate_bps * (now_s - began_s) * (1 + 1e-9) + 1e-6
        last = max(1, int(share * most_bytes))
        limits.sent(now_s, last)
        spent += last


@pytest.mark.parametrize(("max_bytes", "max_rate_bps"), [(255, 0), (200_001, 0), (3000, -1), (3000, 10**9 + 1)])
def test_a_limit_that_cannot_be_changes_nothing(max_bytes, max_rate_bps):
    film = Film()
    film.pipeline.on_message(TOPICS.cmd, cbor2.dumps({"c": "budget", "i": 5, "b": max_bytes, "r": max_rate_bps}))
    assert film.limits == (30_000, 0)
