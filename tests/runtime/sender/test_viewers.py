"""Who watches a stream, in simulated time."""

import pytest

from runtime.sender.viewers import Viewers
from tests.support.sender_bench import Bench


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def test_a_lease_ends_by_itself_and_each_viewer_has_his_own():
    clock = Clock()
    viewers = Viewers(30.0, clock)
    assert not viewers.watched
    assert viewers.renew(1, 25)
    assert not viewers.renew(2, 40)  # only the first one wakes the camera
    clock.now_s += 20
    assert not viewers.renew(1, 25)
    assert viewers.count == 2
    clock.now_s += 21
    assert viewers.count == 1
    assert not viewers.renew(1, 0)
    assert viewers.state == "idle"
    assert viewers.renew(2, 25)
    assert viewers.state == "watched"


def test_a_picture_is_owed_to_the_first_viewer_as_long_as_somebody_watches():
    clock = Clock()
    viewers = Viewers(30.0, clock)
    viewers.renew(1, 25)
    viewers.renew(2, 25)
    assert viewers.owed
    viewers.owed = False
    viewers.renew(3, 25)
    assert not viewers.owed
    clock.now_s += 26
    viewers.renew(1, 0)
    assert not viewers.owed


def test_strangers_with_many_numbers_cost_no_more_than_64_places():
    viewers = Viewers(30.0, Clock())
    viewers.renew(0, 600)
    for number in range(1, 1000):
        viewers.renew(number, 25)
    assert viewers.count == 64
    assert not viewers.renew(0, 0)
    assert viewers.count == 63  # the longest lease was still there


@pytest.mark.parametrize("watched", [False, True])
def test_while_nobody_watches_a_thumbnail_that_cannot_go_is_skipped_once(watched):
    clock = Clock()
    bench = Bench(clock=clock, start=False, idle_every_s=30.0, interval_s=1.0, budget_bytes=None)
    bench.sender.connected(0.1)
    for _ in range(90):
        if watched:
            bench.sender.viewers.renew(1, 25)
        bench.offer()
        bench.sender.encode_step()
        clock.now_s += 1
    skipped = bench.sender.state().skipped
    assert skipped >= 80 if watched else 2 <= skipped <= 4
