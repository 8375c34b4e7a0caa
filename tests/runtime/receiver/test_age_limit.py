"""Age limits: what is too old, and a clock that was set wrong."""

import pytest

from runtime.receiver.age_limit import AgeLimit

DAY_S, NOW_S = 86_400.0, 1_800_000_000.0


class Clocks:
    """A clock that may be set, and one that goes on."""

    def __init__(self, max_age_s):
        self.now_s, self.boot_s = NOW_S, 100.0
        self.limit = AgeLimit(max_age_s, clock_s=lambda: self.now_s, since_boot_s=lambda: self.boot_s)

    def wait(self, seconds):
        self.now_s += seconds
        self.boot_s += seconds


@pytest.fixture
def clocks():
    return Clocks(30 * DAY_S)


def test_what_is_older_than_the_limit_is_too_old(clocks):
    for _ in range(3):
        assert clocks.limit.before_s(NOW_S - 60) == clocks.now_s - 30 * DAY_S
        clocks.wait(40 * DAY_S)  # nothing new comes, and all of it becomes too old
    assert Clocks(0.0).limit.before_s(NOW_S) is None


def test_nothing_is_too_old_for_a_day_after_the_clock_has_jumped_ahead(clocks):
    assert clocks.limit.before_s(NOW_S - 60)
    clocks.now_s += 20 * 365 * DAY_S
    for _ in range(23):
        assert clocks.limit.before_s(NOW_S - 60) is None
        clocks.wait(3600)
    clocks.now_s -= 20 * 365 * DAY_S  # it is set right
    clocks.wait(2 * 3600)
    assert clocks.limit.before_s(NOW_S - 60) == clocks.now_s - 30 * DAY_S


def test_a_start_at_which_all_would_be_too_old_waits_a_day(clocks):
    assert clocks.limit.before_s(NOW_S - 31 * DAY_S) is None
    clocks.wait(DAY_S + 60)
    assert clocks.limit.before_s(NOW_S - 31 * DAY_S) == clocks.now_s - 30 * DAY_S
