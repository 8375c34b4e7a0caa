"""Frame slot between camera and encoder, on a clock that the test holds: which frame is taken, and when."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from edgesem.errors import UsageError
from edgesem.packet.detail_mark import DetailMark
from runtime.capture.frame import Frame
from runtime.sender.frame_slot import FrameSlot
from runtime.sender.viewers import Viewers

INTERVAL_S = 0.1
STEP_S = 0.005


class World:
    """A camera that takes a frame each interval from 100 s on, and a link that has no room now and then."""

    def __init__(self, busy=(), idle_every_s=None, begin_s=99.0):
        self.now_s = begin_s
        self.viewers = None if idle_every_s is None else Viewers(idle_every_s, lambda: self.now_s)
        self.frames, self.skipped, self.busy = 0, 0, busy
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.control = SimpleNamespace(interval_s=INTERVAL_S)
        self.frame_slot = FrameSlot(
            publisher=self,
            control=self.control,
            ready_in_s=lambda: 0.0,
            skip=self.skip,
            stop=threading.Event(),
            promise_every=0,
            viewers=self.viewers,
            clock=lambda: self.now_s,
        )

    def step(self):
        """Time passes, and the camera does its work."""
        self.now_s += STEP_S
        if self.now_s >= 100.0 + self.frames * INTERVAL_S:
            self.frame_slot.offer(Frame(np.zeros((1, 1, 3), np.uint8), str(self.frames), 0))
            self.frames += 1

    def skip(self):
        self.skipped += 1

    def budget_bytes(self, _ready_in_s):
        since_s = self.now_s - 100.0
        return None if any(begin <= since_s < end for begin, end in self.busy) else 1000

    def take(self, count):
        """The next frames: number, and seconds from when the camera took it."""
        taken = []
        while len(taken) < count:
            queued = self.frame_slot.take(wait=False)
            if queued is None:
                self.step()
                continue
            number = int(queued.frame.name)
            taken.append((number, self.now_s - 100.0 - number * INTERVAL_S))
        return taken


def test_each_frame_is_taken_when_it_comes():
    world = World()
    taken = world.take(20)
    assert [number for number, _ in taken] == list(range(20))
    assert max(late_s for _, late_s in taken) < 0.01
    assert world.skipped == 0


@pytest.mark.parametrize("until_s", [0.53, 0.58, 0.63, 0.68, 0.73, 0.77, 0.86, 0.93])
def test_after_a_time_without_room_frames_are_taken_when_they_come_again(until_s):
    world = World(busy=[(0.5, until_s)])
    taken = world.take(20)
    newest = int(until_s / INTERVAL_S)
    assert [number for number, _ in taken[:6]] == [0, 1, 2, 3, 4, newest]
    assert max(late_s for number, late_s in taken if number != newest) < 0.01  # nothing of the time lost stays
    assert world.skipped == newest - 5


def test_a_camera_that_is_faster_than_asked_for_is_slowed_down():
    world = World()
    world.control.interval_s = 3 * INTERVAL_S
    numbers = [number for number, _ in world.take(10)]
    assert 22 <= numbers[-1] <= 28  # each third one


def test_no_more_than_eight_snapshots_wait_however_many_are_asked_for():
    world = World()
    for _ in range(3):  # before there was a frame, they are one
        world.frame_slot.snapshot(1000)
    world.frame_slot.offer(Frame(np.zeros((1, 1, 3), np.uint8), "0", 0))
    for _ in range(50):
        world.frame_slot.snapshot(1000)
    taken = []
    while (queued := world.frame_slot.take(wait=False)) is not None:
        taken.append(queued.max_bytes)
    assert taken == [1000] * 8


def test_no_more_than_two_details_wait():
    world = World()
    detail = Frame(np.zeros((64, 64, 3), np.uint8), "0", 0, detail=DetailMark(0, 0, 1, 1, 7))
    for _ in range(2):
        world.frame_slot.promise_detail(detail, 1000)
    with pytest.raises(UsageError, match="2 wait"):
        world.frame_slot.promise_detail(detail, 1000)
    assert world.frame_slot.take(wait=False).frame is detail
    world.frame_slot.promise_detail(detail, 1000)


def test_with_nobody_watching_frames_are_rare_and_the_first_viewer_gets_the_last_one_at_once():
    world = World(idle_every_s=1.0)
    numbers = [number for number, _ in world.take(4)]
    assert numbers == [0, 10, 20, 30]
    assert world.viewers.renew(1, 10.0)
    world.frame_slot.send_newest()
    seen = world.frames
    assert int(world.frame_slot.take(wait=False).frame.name) == seen - 1
    assert [number for number, _ in world.take(3)] == [seen, seen + 1, seen + 2]


def test_a_picture_that_somebody_waits_for_leaves_the_others_on_time():
    world = World(begin_s=100.0 - STEP_S)
    world.take(4)
    world.now_s += INTERVAL_S / 2
    world.frame_slot.send_newest()
    assert world.frame_slot.take(wait=False).frame.name == "3"  # again, and at once
    taken = world.take(10)
    assert [number for number, _ in taken] == list(range(4, 14))
    assert max(late_s for _, late_s in taken) < 0.01


def test_a_newer_picture_goes_to_whoever_waits_without_room_for_one():
    world = World(busy=[(0.35, 0.57)], begin_s=100.0 - STEP_S)
    world.take(4)
    world.now_s += INTERVAL_S / 2
    world.frame_slot.send_newest()
    taken = world.take(10)
    assert [number for number, _ in taken] == list(range(5, 15))
    assert max(late_s for number, late_s in taken if number != 5) < 0.01


def test_a_thumbnail_that_found_no_room_is_made_up_for_by_the_next_frame():
    world = World(idle_every_s=1.0)
    world.take(1)
    world.frame_slot.hurry()
    ((number, _),) = world.take(1)
    assert number == 1
