"""Redelivery of promised frames on a clock that the test holds: which is tried when, and none blocks the others."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.events import PromiseKept, PromiseRejected
from runtime.sender.redelivery import Redelivery
from runtime.sender.spool import Spool


class Line:
    """A redelivery, and a broker and receiver that answer as `answer(frame)` says: "", "kept" or "refused"."""

    def __init__(self, spool, answer):
        self.spool, self.answer, self.now_s = spool, answer, 0.0
        self.redelivery = Redelivery(spool)
        self.redelivery.reconnected()
        self.tries, self.told = [], []

    def promise(self, *frames, handle=None):
        for frame in frames:
            packet = Packet(1, 7, frame, 0, 64, 64, 9, 1, 0, (b"x" * 50,), promised=True)
            assert self.redelivery.keep(packet, handle)

    def run(self, seconds, step_s=0.5, most=None):
        """`most`: tries that the link has room for in a step."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            count = 0
            while count != most and (due := self.redelivery.next(self.now_s)) is not None:
                count += 1
                frame = due.packet.frame
                self.tries.append((round(self.now_s, 1), frame))
                self.redelivery.sent(due.row_id, self.now_s)
                answer = self.answer(frame)
                if answer == "refused":
                    self.redelivery.refused(due.row_id, "too large", self.now_s)
                elif answer == "kept":
                    self.redelivery.acknowledged(Ack(7, frame, 0, 0, 0, kept=1), self.now_s)
            self.told += self.redelivery.settle()
            self.now_s += step_s

    @property
    def rejected(self):
        """Reasons of the dead letters that were told."""
        return [event.reason for event in self.told if isinstance(event, PromiseRejected)]

    def times(self, frame):
        return [at_s for at_s, tried in self.tries if tried == frame]


@contextlib.contextmanager
def new_spool():
    """A spool in memory, where there is such a disk: these tests are of the order, and add thousands of frames."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        made = Spool(Path(folder) / "a.spool", max_bytes=10**7)
        yield made
        made.close()


@pytest.fixture
def spool():
    with new_spool() as made:
        yield made


def test_after_a_long_silence_the_newest_comes_at_once_when_a_receiver_speaks(spool):
    kept = []
    line = Line(spool, lambda frame: "kept" if kept else "")
    line.promise(*range(6))
    line.run(660)  # nobody is there
    kept.append(True)
    line.tries.clear()
    line.redelivery.acknowledged(Ack(7, 1000, 0, 0, 0), line.now_s)  # of some ordinary frame
    line.run(1)
    assert [frame for _, frame in line.tries] == [5, 4, 3, 2, 1, 0]
    assert spool.waiting == 0


def test_a_new_promise_is_tried_at_once_whatever_waits(spool):
    line = Line(spool, lambda frame: "")
    line.promise(*range(20))
    line.run(700)
    for frame in (20, 21, 22):
        line.promise(frame)
        line.run(5)
        assert line.times(frame) == [pytest.approx(line.now_s - 5, abs=0.01)]


def test_without_a_receiver_the_link_is_hardly_used(spool):
    line = Line(spool, lambda frame: "")
    line.promise(*range(50))
    line.run(600)
    before = len(line.tries)
    line.run(6000)
    assert len(line.tries) - before <= 4 * 11


@pytest.mark.parametrize("answer", ["refused", ""])
def test_frames_that_nobody_takes_do_not_block_the_others(spool, answer):
    line = Line(spool, lambda frame: answer if frame < 4 else "kept")
    line.promise(*range(6))
    line.redelivery.reconnected()
    line.run(60)
    assert line.times(4)
    assert line.times(5)
    assert spool.waiting + spool.rejected == 4
    for frame in range(10, 200):  # a receiver goes on to keep others
        line.promise(frame)
        line.run(60)
    assert len(line.rejected) == spool.rejected == 4
    assert ("too large" if answer else "no receiver has kept it") in line.rejected[0]
    assert (line.redelivery.waiting, len(spool.dead_letters)) == (0, 4)
    tries = len(line.tries)
    line.redelivery.reconnected()
    line.run(600)
    assert len(line.tries) == tries  # set aside


def restarted(line, answer):
    """The line of the sender's next start, with the same spool; the old one is closed."""
    line.spool.close()
    return Line(Spool(line.spool.path, max_bytes=10**7), answer)


@pytest.mark.parametrize("answer", ["refused", ""])
def test_a_dead_letter_is_one_after_a_restart_and_gets_one_try(spool, answer):
    line = Line(spool, lambda frame: answer if frame < 4 else "kept")
    line.promise(*range(4))
    for frame in range(10, 26):
        line.promise(frame)
        line.run(660)
    reasons = spool.dead_letters
    assert len(reasons) == 4
    again = restarted(line, line.answer)
    assert again.spool.dead_letters == reasons
    assert (again.redelivery.waiting, again.spool.rejected) == (0, 4)
    again.run(60)
    assert again.tries == []  # nobody has kept anything: there may be no receiver
    for frame in range(200, 220):
        again.promise(frame)
        again.run(60)
    assert [len(again.times(frame)) for frame in range(4)] == [1] * 4
    assert again.spool.dead_letters == reasons
    assert again.rejected == []
    last = restarted(again, lambda frame: "kept")  # now there is a receiver that takes them
    last.promise(300)
    last.run(60)
    assert {event.frame for event in last.told} == {0, 1, 2, 3, 300}
    assert (last.spool.rejected, last.spool.waiting) == (0, 0)
    last.spool.close()


def test_a_handle_is_told_that_its_frame_is_a_dead_letter(spool):
    line, handle = Line(spool, lambda frame: "refused"), DeliveryHandle()
    line.promise(1, handle=handle)
    line.run(60)
    assert not handle.wait(0.0)
    assert "too large" in handle.refused


def test_four_bad_frames_that_are_the_newest_do_not_block_without_any_other_word(spool):
    line = Line(spool, lambda frame: "" if frame >= 2 else "kept")
    line.promise(*range(6))
    line.redelivery.reconnected()
    line.run(120)
    assert line.times(0)
    assert line.times(1)


def test_a_damaged_row_is_named_and_the_others_go(spool):
    line = Line(spool, lambda frame: "kept")
    spool.add(epoch=7, frame=100, packet=b"damaged")
    line.promise(1)
    line.run(5)
    assert [reason.startswith("it was damaged") for reason in line.rejected] == [True]
    assert (spool.rejected, line.redelivery.waiting) == (1, 0)


def test_only_what_was_sent_on_this_connection_can_be_kept(spool):
    line = Line(spool, lambda frame: "")
    line.promise(1)
    line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1), 0.0)  # forged: it was never sent
    assert line.redelivery.settle() == []
    line.run(1)
    line.redelivery.acknowledged(Ack(7, 2, 0, 0, 0, kept=1), line.now_s)
    assert line.redelivery.settle() == []
    line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1), line.now_s)
    assert line.redelivery.settle() == [PromiseKept(7, 1)]
    assert spool.waiting == 0


def test_a_frame_that_two_receivers_keep_is_told_once(spool):
    line = Line(spool, lambda frame: "")
    line.promise(1)
    line.run(1)
    for receiver in (5, 6, 5):
        line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1, receiver=receiver), line.now_s)
    assert line.redelivery.settle() == [PromiseKept(7, 1)]
    line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1, receiver=6), line.now_s)
    assert line.redelivery.settle() == []


def test_what_waits_for_room_is_not_lost(spool):
    line = Line(spool, lambda frame: "kept")
    line.promise(*range(3))
    assert {line.redelivery.next(0.0).packet.frame for _ in range(5)} == {2}  # no room: it was not sent
    line.run(2)
    assert spool.waiting == 0
    assert np.array_equal(sorted(frame for _, frame in line.tries), [0, 1, 2])


def test_new_frames_without_end_do_not_starve_one_that_was_lost(spool):
    lost = set(range(8))  # by the broker, at their first try
    seen = set()

    def answer(frame):
        first, _ = frame not in seen, seen.add(frame)
        return "" if first and frame in lost else "kept"

    line = Line(spool, answer)
    line.run(1)
    for frame in range(308):  # a new one for each that the link has room for
        line.promise(frame)
        line.run(0.5, most=1)
    assert all(len(line.times(frame)) > 1 for frame in lost)


def test_new_frames_without_end_do_not_starve_those_of_an_outage(spool):
    line = Line(spool, lambda frame: "kept")
    line.promise(*range(20))
    line.redelivery.reconnected()
    for frame in range(20, 120):
        line.promise(frame)
        line.run(0.5, most=1)
    assert all(line.times(frame) for frame in range(20))


def test_new_frames_without_a_receiver_do_not_hold_up_the_tries_of_others(spool):
    line = Line(spool, lambda frame: "")
    line.promise(*range(8))
    line.redelivery.reconnected()
    for frame in range(8, 308):
        line.promise(frame)
        line.run(1)
    assert all(line.times(frame) for frame in range(8))
    assert len(line.tries) < 300 + 4 * 11


def test_what_was_sent_a_moment_ago_is_not_sent_again_when_a_receiver_speaks(spool):
    line = Line(spool, lambda frame: "")
    for frame in range(30):
        line.promise(frame)
        line.run(1)
    line.redelivery.acknowledged(Ack(7, 1000, 0, 0, 0), line.now_s)
    line.tries.clear()
    line.run(1)
    assert line.tries
    assert not {frame for _, frame in line.tries} & set(range(21, 30))


def test_a_burst_of_new_frames_is_not_starved_by_those_that_follow(spool):
    line = Line(spool, lambda frame: "kept")
    line.promise(*range(20))
    for frame in range(20, 140):
        line.promise(frame)
        line.run(0.5, most=1)
    assert all(line.times(frame) for frame in range(20))


def test_a_receiver_that_speaks_seldom_and_keeps_nothing_does_not_hide_the_older_frames(spool):
    line = Line(spool, lambda frame: "")
    line.promise(*range(60))
    line.redelivery.reconnected()
    for _ in range(60):
        line.run(20)
        line.redelivery.acknowledged(Ack(7, 1000, 0, 0, 0), line.now_s)  # of an ordinary frame
    assert all(line.times(frame) for frame in range(60))


ANSWERS = st.sampled_from(["kept", "kept", "", "refused"])
STEPS = st.one_of(
    st.tuples(st.just("promise"), st.integers(1, 12)),
    st.tuples(st.just("run"), st.integers(1, 120)),
    st.tuples(st.just("reconnect"), st.just(0)),
    st.tuples(st.just("ack"), st.just(0)),
)


@settings(max_examples=12)
@given(st.lists(STEPS, max_size=25), st.lists(ANSWERS, min_size=8, max_size=8), st.integers(1, 4))
def test_whatever_has_happened_each_frame_is_kept_or_a_dead_letter_once_a_receiver_is_there(steps, answers, most):
    """Old ones and new ones, though a new one comes with every second try that the link has room for."""
    with new_spool() as spool:
        line = Line(spool, lambda frame: answers[frame % 8])
        promised = 0
        for step, count in steps:
            if step == "promise":
                for frame in range(promised, promised + count):
                    line.promise(frame)
                promised += count
            elif step == "run":
                line.run(count, most=most)
            elif step == "reconnect":
                line.redelivery.reconnected()
            else:
                line.redelivery.acknowledged(Ack(7, 10**6, 0, 0, 0), line.now_s)
        before = promised
        line.answer = lambda frame: "refused" if frame < before and answers[frame % 8] == "refused" else "kept"
        for _ in range(700):
            line.promise(promised)
            promised += 1
            line.run(1.0, most=1)
        done = {event.frame for event in line.told if isinstance(event, PromiseKept)}
        dead = {row_id - 1 for row_id in spool.dead_letters}
        assert set(range(before)) <= done | dead
        assert {frame for frame in dead if answers[frame % 8] == "kept"} == set()
        assert len(set(range(promised)) - done - dead) < 20


def test_a_new_promise_goes_before_those_that_wait(spool):
    line = Line(spool, lambda frame: "kept")
    line.promise(*range(20))
    line.redelivery.reconnected()
    line.run(2, most=1)
    line.promise(20)
    line.run(0.5, most=1)
    assert line.tries[-1][1] == 20


def test_on_a_long_link_a_receiver_has_four_round_trips_to_answer(spool):
    line = Line(spool, lambda frame: "")
    line.redelivery.reconnected(5.0)
    line.promise(1)
    line.run(100)
    first_s, second_s, *_ = line.times(1)
    assert second_s - first_s == pytest.approx(20, abs=0.6)


def test_a_full_disk_costs_one_line_and_not_one_for_each_frame(tmp_path, caplog):
    redelivery = Redelivery(Spool(tmp_path / "a.spool", max_bytes=1 << 18))
    packet = Packet(1, 7, 0, 0, 64, 64, 9, 1, 0, (bytes(60_000),), promised=True)
    kept = [redelivery.keep(replace(packet, frame=frame)) for frame in range(40)]
    assert kept.count(False) > 20
    assert sum("cannot promise" in line for line in caplog.messages) == 1
