"""Redelivery of promised frames on a clock that the test holds: which is tried when, and none blocks the others."""

import numpy as np
import pytest

from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.sender.redelivery import Redelivery
from runtime.sender.spool import Spool


class Line:
    """A redelivery, and a broker and receiver that answer as `answer(frame)` says: "", "kept" or "refused"."""

    def __init__(self, spool, answer):
        self.spool, self.answer, self.now_s = spool, answer, 0.0
        self.redelivery = Redelivery(spool)
        self.redelivery.reconnected()
        self.tries = []

    def promise(self, frame):
        packet = Packet(1, 7, frame, 0, 64, 64, 9, 1, 0, (b"x" * 50,), promised=True)
        assert self.redelivery.keep(packet)

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
            self.redelivery.settle()
            self.now_s += step_s

    def times(self, frame):
        return [at_s for at_s, tried in self.tries if tried == frame]


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "a.spool", max_bytes=10**7)
    yield made
    made.close()


def test_after_a_long_silence_the_newest_comes_at_once_when_a_receiver_speaks(spool):
    kept = []
    line = Line(spool, lambda frame: "kept" if kept else "")
    for frame in range(6):
        line.promise(frame)
    line.run(660)  # nobody is there
    kept.append(True)
    line.tries.clear()
    line.redelivery.acknowledged(Ack(7, 1000, 0, 0, 0), line.now_s)  # of some ordinary frame
    line.run(1)
    assert [frame for _, frame in line.tries] == [5, 4, 3, 2, 1, 0]
    assert spool.waiting == 0


def test_a_new_promise_is_tried_at_once_whatever_waits(spool):
    line = Line(spool, lambda frame: "")
    for frame in range(20):
        line.promise(frame)
    line.run(700)
    for frame in (20, 21, 22):
        line.promise(frame)
        line.run(5)
        assert line.times(frame) == [pytest.approx(line.now_s - 5, abs=0.01)]


def test_without_a_receiver_the_link_is_hardly_used(spool):
    line = Line(spool, lambda frame: "")
    for frame in range(50):
        line.promise(frame)
    line.run(600)
    before = len(line.tries)
    line.run(6000)
    assert len(line.tries) - before <= 4 * 11


@pytest.mark.parametrize("answer", ["refused", ""])
def test_frames_that_nobody_takes_do_not_block_the_others(spool, answer):
    line = Line(spool, lambda frame: answer if frame < 4 else "kept")
    for frame in range(6):
        line.promise(frame)
    line.redelivery.reconnected()
    line.run(60)
    assert line.times(4)
    assert line.times(5)
    assert spool.waiting == 4
    for frame in range(10, 200):  # a receiver goes on to keep others
        line.promise(frame)
        line.run(60)
    rejected = line.redelivery.take_rejected()
    assert len(rejected) == line.redelivery.rejected == 4
    assert ("too large" if answer else "no receiver has kept it") in rejected[0].reason
    assert (line.redelivery.waiting, spool.waiting) == (0, 4)
    tries = len(line.tries)
    line.redelivery.reconnected()
    line.run(600)
    assert len(line.tries) == tries  # set aside
    again = Line(spool, lambda frame: "kept")
    again.run(60)
    assert spool.waiting == 0  # the next start tries them again


def test_four_bad_frames_that_are_the_newest_do_not_block_without_any_other_word(spool):
    line = Line(spool, lambda frame: "" if frame >= 2 else "kept")
    for frame in range(6):
        line.promise(frame)
    line.redelivery.reconnected()
    line.run(120)
    assert line.times(0)
    assert line.times(1)


def test_a_damaged_row_is_named_and_the_others_go(spool):
    line = Line(spool, lambda frame: "kept")
    spool.add(epoch=7, frame=100, packet=b"damaged")
    line.promise(1)
    line.run(5)
    assert [row.reason.startswith("it was damaged") for row in line.redelivery.take_rejected()] == [True]
    assert (spool.waiting, line.redelivery.waiting) == (1, 0)


def test_only_what_was_sent_on_this_connection_can_be_kept(spool):
    line = Line(spool, lambda frame: "")
    line.promise(1)
    line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1), 0.0)  # forged: it was never sent
    assert line.redelivery.settle() == []
    line.run(1)
    line.redelivery.acknowledged(Ack(7, 2, 0, 0, 0, kept=1), line.now_s)
    assert line.redelivery.settle() == []
    line.redelivery.acknowledged(Ack(7, 1, 0, 0, 0, kept=1), line.now_s)
    assert line.redelivery.settle() == [(7, 1)]
    assert spool.waiting == 0


def test_what_waits_for_room_is_not_lost(spool):
    line = Line(spool, lambda frame: "kept")
    for frame in range(3):
        line.promise(frame)
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
