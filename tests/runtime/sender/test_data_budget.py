"""Data budget: months in simulated time, within the limit and near it; restarts, crashes and clocks that jump."""

import random
from datetime import datetime, timezone

import pytest

from edgesem.errors import InputError
from runtime.sender.data_budget import DataBudget, DataLimits
from runtime.sender.metered_control import MeteredControl

MONTH_BYTES = 50_000_000
PING_BYTES = 160
BEGIN_S = datetime(2026, 4, 1, tzinfo=timezone.utc).timestamp()
DAY_S = 86400


def wire(size_bytes):
    """What a message costs: TLS, TCP and IP headers, and its confirmations on the way back."""
    return round(1.03 * size_bytes) + 230


class Camera:
    """A camera with a budget, in simulated time: a frame each `every_s` of what it is given, pings, and alarms."""

    def __init__(self, folder, every_s=60, begin_s=BEGIN_S, ping_s=30, keeps=False, **limits):
        self.keeps, self.folder, self.every_s, self.ping_s = keeps, folder, every_s, ping_s
        self.now_s = self.uptime_s = 0.0
        self.begin_s, self.limits = begin_s, DataLimits(**{"month_bytes": MONTH_BYTES, **limits})
        self.wire_bytes, self.frames, self.alarms, self.refused = 0, 0, 0, 0
        self.offset_s = 0.0
        self.start()

    def start(self):
        self.data = DataBudget(
            self.limits,
            self.folder / "data.json",
            clock=lambda: self.begin_s + self.now_s + self.offset_s,
            monotonic=lambda: self.now_s,
            zone=timezone.utc,
        )
        self.control = MeteredControl(interval_s=self.every_s, data=self.data)

    def message(self, size_bytes, *, base=True):
        self.control.sent(self.now_s, size_bytes=size_bytes, base=base)
        self.control.acked(self.now_s + 0.1, size_bytes=size_bytes, sent_s=self.now_s)
        self.cost(wire(size_bytes))

    def cost(self, wire_bytes):
        self.wire_bytes += wire_bytes
        self.data.spent(wire_bytes)
        if self.keeps and (accounts := self.data.due_accounts()) is not None:
            self.data.file.write_bytes(accounts)

    def alarm(self, size_bytes=8000):
        if self.control.room(self.now_s, size_bytes=size_bytes, base=False):
            self.alarms += 1
            self.message(size_bytes, base=False)
        else:
            self.refused += 1

    def run(self, seconds, alarms=()):
        """So long, with an alarm at each of these times."""
        due, end_s = sorted(alarms, reverse=True), self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += self.every_s
            self.cost(round(self.every_s / self.ping_s) * PING_BYTES)
            while due and due[-1] <= self.now_s:
                due.pop()
                self.alarm()
            budget_bytes = self.control.budget_bytes(self.now_s)
            if budget_bytes is not None and self.control.room(self.now_s, size_bytes=budget_bytes, base=True):
                self.frames += 1
                self.message(budget_bytes)


@pytest.mark.parametrize("at_end", ["alarms", "stills", "stop"])
def test_a_month_is_never_above_and_within_three_percent_below(tmp_path, at_end):
    camera = Camera(tmp_path, every_s=600, at_end=at_end)
    camera.run(30 * DAY_S - 600)
    assert 0.97 * MONTH_BYTES <= camera.wire_bytes <= MONTH_BYTES
    assert camera.data.usage().spent_bytes == camera.wire_bytes
    half = camera.frames
    camera.run(30 * DAY_S)  # the next month has as much again
    assert camera.frames > 1.8 * half


def test_at_a_frame_a_minute_alarms_are_never_starved_also_in_a_burst_of_the_last_hour(tmp_path):
    rng = random.Random(1)
    spread = [rng.uniform(0, 30 * DAY_S) for _ in range(200)]
    burst = [29.96 * DAY_S + 10 * number for number in range(50)]
    camera = Camera(tmp_path, every_s=60)
    camera.run(30 * DAY_S - 60, alarms=[*spread, *burst])
    assert (camera.alarms, camera.refused) == (250, 0)
    assert 0.97 * MONTH_BYTES <= camera.wire_bytes <= MONTH_BYTES


@pytest.mark.parametrize("ping_s", [15, 30])
def test_a_flood_of_alarms_ends_at_the_limit_and_not_above(tmp_path, ping_s):
    camera = Camera(tmp_path, every_s=300, ping_s=ping_s)
    camera.run(30 * DAY_S - 300, alarms=[DAY_S + number for number in range(10_000)])
    assert camera.refused > 0
    assert camera.wire_bytes <= MONTH_BYTES


def test_what_is_spread_is_even_a_day_is_like_another(tmp_path):
    camera, days, before = Camera(tmp_path, every_s=300), [], 0
    for _ in range(29):
        camera.run(DAY_S)
        days.append(camera.wire_bytes - before)
        before = camera.wire_bytes
    assert max(days) < 1.4 * min(days)


def test_after_an_outage_what_was_saved_goes_to_the_rest_of_the_month(tmp_path):
    camera = Camera(tmp_path, every_s=300)
    camera.run(DAY_S)
    one_day = camera.wire_bytes
    camera.now_s += 14 * DAY_S  # no connection
    camera.run(DAY_S)
    assert camera.wire_bytes - one_day > 1.7 * one_day
    camera.run(14 * DAY_S - 300)
    assert 0.97 * MONTH_BYTES <= camera.wire_bytes <= MONTH_BYTES


def test_hours_and_days_are_limits_of_their_own(tmp_path):
    camera = Camera(tmp_path, every_s=10, day_bytes=2_000_000, hour_bytes=150_000, month_bytes=0)
    for _ in range(36):
        before = camera.wire_bytes
        camera.run(3600)
        assert camera.wire_bytes - before <= 150_000
    assert camera.wire_bytes >= 0.9 * 36 / 24 * 2_000_000
    assert camera.wire_bytes <= 4_000_000


def test_kept_over_restarts_and_a_crash_gives_nothing_back(tmp_path):
    camera = Camera(tmp_path, every_s=300, keeps=True)
    camera.run(DAY_S)
    camera.data.file.write_bytes(camera.data.accounts())
    camera.start()
    assert camera.data.usage().spent_bytes == camera.wire_bytes
    for _ in range(20):
        camera.run(3600)
        camera.start()  # killed: nothing was saved at the end
        assert camera.data.usage().spent_bytes >= camera.wire_bytes
    assert camera.data.usage().spent_bytes < camera.wire_bytes + 21 * 25_000


@pytest.mark.parametrize("jump_s", [-400 * DAY_S, 400 * DAY_S, -56 * 365 * DAY_S])
def test_a_clock_that_jumps_and_comes_back_gives_no_second_budget(tmp_path, jump_s):
    camera = Camera(tmp_path, every_s=300)
    camera.run(10 * DAY_S)
    camera.offset_s = jump_s
    camera.run(DAY_S)
    camera.offset_s = 0.0
    camera.run(19 * DAY_S - 300)
    assert camera.wire_bytes <= MONTH_BYTES
    assert camera.data.usage().spent_bytes >= camera.wire_bytes


def test_a_small_jump_of_the_clock_takes_no_period_that_is_over_into_the_present_one(tmp_path):
    camera = Camera(tmp_path, every_s=300, day_bytes=1_600_000, month_bytes=0)
    camera.run(20.5 * DAY_S)
    before = camera.data.usage().spent_bytes
    camera.offset_s = 120.0  # as after NTP, or a pause of the whole machine
    camera.cost(100)
    assert camera.data.usage().spent_bytes == before + 100


def test_a_jump_there_and_back_is_not_counted_twice(tmp_path):
    camera = Camera(tmp_path, every_s=300)
    camera.run(10 * DAY_S)
    camera.offset_s = 400 * DAY_S
    camera.run(DAY_S)
    camera.offset_s = 0.0
    camera.run(DAY_S)
    assert camera.data.usage().spent_bytes == camera.wire_bytes


def test_a_clock_that_is_wrong_for_long_does_not_push_the_months_account_out(tmp_path):
    camera = Camera(tmp_path, every_s=300, keeps=True, hour_bytes=200_000)
    camera.run(5 * DAY_S)
    month_bytes = camera.wire_bytes
    camera.start()
    camera.offset_s = 60 * DAY_S
    camera.run(DAY_S)
    camera.start()
    camera.offset_s = 0.0
    camera.cost(0)
    assert camera.data.usage().spent_bytes >= month_bytes


def test_a_crash_at_the_begin_of_a_period_gives_nothing_back(tmp_path):
    camera = Camera(tmp_path, every_s=300, keeps=True, hour_bytes=100_000, month_bytes=0)
    camera.cost(25_000)
    camera.now_s += 3600
    camera.cost(2500)
    camera.start()
    assert camera.data.usage().spent_bytes >= 2500


def test_a_message_that_leaves_slowly_is_charged_once(tmp_path):
    camera = Camera(tmp_path)
    camera.now_s += DAY_S
    before = camera.data.frame_bytes()
    camera.data.sending(1000)
    for _ in range(10):
        camera.data.spent(100)
    assert camera.data.frame_bytes() == before - 1000


def test_the_billing_month_begins_on_its_day(tmp_path):
    camera = Camera(tmp_path, every_s=300, month_day=15)
    camera.run(13 * DAY_S)
    assert camera.data.usage().spent_bytes == camera.wire_bytes
    camera.run(2 * DAY_S)
    assert camera.data.usage().spent_bytes < camera.wire_bytes / 2


def test_by_stills_one_frame_an_hour_goes_when_ordinary_ones_are_used_up(tmp_path):
    frames = {}
    for at_end in ("alarms", "stills", "stop"):
        (tmp_path / at_end).mkdir()
        camera = Camera(tmp_path / at_end, every_s=300, at_end=at_end, alarm_share=0.3)
        camera.cost(25_000_000)  # on the first day; the connection alone takes 14 MB in a month
        camera.run(2 * DAY_S)
        camera.alarm()
        frames[at_end] = camera.frames, camera.alarms
    assert frames == {"alarms": (0, 1), "stills": (pytest.approx(48, abs=2), 1), "stop": (0, 0)}


def test_a_damaged_account_is_told(tmp_path):
    (tmp_path / "data.json").write_text('{"month 1": -5}')
    with pytest.raises(InputError, match="delete it"):
        Camera(tmp_path)


@pytest.mark.parametrize("limits", [{}, {"month_bytes": 0, "day_bytes": 2_000_000}], ids=["month", "day"])
def test_events_at_a_busy_road_keep_to_their_part_and_leave_alarms_theirs(tmp_path, limits):
    camera = Camera(tmp_path, every_s=600, **limits)
    length_s, limit_bytes = (DAY_S, 2_000_000) if limits else (30 * DAY_S, MONTH_BYTES)
    events = 0
    while camera.now_s < length_s - 600:
        camera.run(600)
        while camera.data.may_begin_event():  # one after the other, without an end
            for _ in range(16):
                camera.data.promised(4000, event=True)
                camera.alarm(4000)
            events += 1
        if camera.now_s == 600:
            assert 0.05 * limit_bytes <= camera.wire_bytes <= 0.09 * limit_bytes
    assert 0.4 * limit_bytes <= events * 16 * wire(4000) <= 0.55 * limit_bytes
    assert camera.refused == 0
    assert camera.frames > 20
    camera.alarm()
    assert camera.refused == 0
    assert camera.wire_bytes <= limit_bytes


def test_what_events_have_had_is_known_after_a_restart_and_forgotten_with_the_period(tmp_path):
    camera = Camera(tmp_path, keeps=True)
    while camera.data.may_begin_event():
        camera.data.promised(64_000, event=True)
    camera.data.file.write_bytes(camera.data.accounts())
    camera.start()
    assert not camera.data.may_begin_event()
    camera.now_s += 31 * DAY_S
    assert camera.data.may_begin_event()


def test_the_forecast_counts_what_alarms_have_cost(tmp_path):
    camera = Camera(tmp_path)
    camera.run(600)
    assert camera.data.usage().forecast_bytes <= MONTH_BYTES
    for _ in range(600):
        camera.data.promised(4000, event=False)
        camera.alarm(4000)
    usage = camera.data.usage()
    assert usage.spent_bytes > 2_400_000
    assert 1.5 * MONTH_BYTES < usage.forecast_bytes < 2 * MONTH_BYTES  # 2.6 MB a day, and pings


def test_no_event_begins_where_events_have_no_part(tmp_path):
    assert not Camera(tmp_path, event_share=0.0).data.may_begin_event()
    assert DataBudget(DataLimits(), tmp_path / "none.json").may_begin_event()
