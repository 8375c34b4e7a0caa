"""Schedule: which rate holds when, by clock and by sun, over midnight and over changes of the clock."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from edgesem.config import load_config
from edgesem.errors import UsageError
from runtime.daemon.send_schedule import Position, Schedule
from runtime.daemon.send_settings import SendSettings

VIENNA, ZONE = Position(48.21, 16.37), ZoneInfo("Europe/Vienna")


def at(text, zone=ZONE):
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def changes(schedule, begin, hours, zone=ZONE, otherwise=1.0):
    """Local times at which the rate changes, to the minute, and to what."""
    begin_s, found, before = at(begin, zone), [], None
    for minute in range(hours * 60):
        now_s = begin_s + 60 * minute
        if (rate := schedule.fps(now_s, otherwise)) != before:
            found.append((datetime.fromtimestamp(now_s, zone).strftime("%d %H:%M"), rate))
            before = rate
    return found


def test_the_first_rule_that_holds_counts_also_over_midnight():
    schedule = Schedule(["22:00..05:30=0", "05:00..08:00=0.5"], zone=ZONE)
    assert changes(schedule, "2026-05-01T12:00", 24) == [
        ("01 12:00", 1.0),
        ("01 22:00", 0.0),
        ("02 05:30", 0.5),
        ("02 08:00", 1.0),
    ]


def test_by_night_another_rate():
    schedule = Schedule(["sunset+0:30..sunrise-0:30=0.05"], VIENNA, ZONE)
    assert changes(schedule, "2024-12-21T12:00", 24) == [
        ("21 12:00", 1.0),
        ("21 16:34", 0.05),
        ("22 07:14", 1.0),
    ]


def test_a_camera_far_from_its_clocks_zone():
    utc = ZoneInfo("UTC")
    found = changes(Schedule(["sunrise..sunset=2"], Position(-33.87, 151.21), utc), "2026-07-01T00:00", 24, utc)
    assert [rate for _, rate in found] == [2.0, 1.0, 2.0]
    assert [when[:5] for when, _ in found[1:]] == ["01 06", "01 21"]


@pytest.mark.parametrize(("day", "dark"), [("2026-06-21", False), ("2026-12-21", True)])
def test_beyond_the_polar_circle(day, dark):
    tromso, zone = Position(69.65, 18.96), ZoneInfo("Europe/Oslo")
    night = Schedule(["sunset..sunrise=0"], tromso, zone)
    light = Schedule(["sunrise..sunset=2"], tromso, zone)
    for hour in range(24):
        now_s = at(f"{day}T{hour:02}:30", zone)
        assert night.fps(now_s, 1.0) == (0.0 if dark else 1.0)
        assert light.fps(now_s, 1.0) == (1.0 if dark else 2.0)


def test_times_are_those_on_the_wall_when_the_clock_is_set_forward():
    schedule = Schedule(["06:00..07:00=5"], zone=ZONE)
    for day in ("2026-03-28", "2026-03-29", "2026-10-25"):
        assert schedule.fps(at(f"{day}T05:59"), 1.0) == 1.0
        assert schedule.fps(at(f"{day}T06:00"), 1.0) == 5.0
        assert schedule.fps(at(f"{day}T07:00"), 1.0) == 1.0


def test_equal_times_are_a_whole_day_and_24_00_is_midnight():
    whole = Schedule(["08:00..08:00=3"], zone=ZONE)
    assert all(
        whole.fps(at("2026-05-01T00:30") + timedelta(hours=hour).total_seconds(), 1.0) == 3.0 for hour in range(30)
    )
    assert changes(Schedule(["12:00..24:00=2"], zone=ZONE), "2026-05-01T11:00", 20) == [
        ("01 11:00", 1.0),
        ("01 12:00", 2.0),
        ("02 00:00", 1.0),
    ]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("night=1", "is no rule"),
        ("22:00..05:00", "is no rule"),
        ("25:00..05:00=1", "is no time"),
        ("12:60..13:00=1", "is no time"),
        ("dawn..dusk=1", "is no time"),
        ("sunrise-0:75..12:00=1", "is no time"),
        ("12:00..13:00=0.0001", "must be 0"),
        ("12:00..13:00=61", "must be 0"),
        ("sunrise..12:00=1", "need a position"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(rule, words, tmp_path):
    path = tmp_path / "send.toml"
    path.write_text(f'[schedule]\nrules = ["{rule}"]\n')
    with pytest.raises(UsageError, match=words):
        load_config(path, SendSettings)


def test_half_a_position_is_refused():
    with pytest.raises(UsageError, match="belong together"):
        load_config(None, SendSettings, {"schedule.latitude": 48.2})
