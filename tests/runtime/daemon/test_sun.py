"""Sun: rising and setting as almanacs have them, and where it does neither."""

from datetime import date, datetime, timedelta, timezone

import pytest

from runtime.daemon.sun import daylight


def utc(text):
    return datetime.fromisoformat(f"{text}:00+00:00").timestamp()


@pytest.mark.parametrize(
    ("day", "latitude", "longitude", "rise", "set_"),
    [
        ("2024-06-20", 51.48, 0.0, "2024-06-20T03:43", "2024-06-20T20:21"),  # Greenwich
        ("2024-12-21", 48.21, 16.37, "2024-12-21T06:43", "2024-12-21T15:03"),  # Vienna
        ("2026-07-01", -33.87, 151.21, "2026-06-30T21:01", "2026-07-01T06:57"),  # Sydney
        ("2024-03-20", 0.0, 0.0, "2024-03-20T06:04", "2024-03-20T18:11"),
        ("2025-01-01", 40.71, -74.01, "2025-01-01T12:20", "2025-01-01T21:39"),  # New York
    ],
)
def test_as_in_almanacs(day, latitude, longitude, rise, set_):
    found = daylight(date.fromisoformat(day), latitude, longitude)
    assert abs(found.rise_s - utc(rise)) < 90
    assert abs(found.set_s - utc(set_)) < 90


def test_where_the_sun_does_not_set_or_not_rise():
    summer, winter = daylight(date(2026, 6, 21), 69.65, 18.96), daylight(date(2026, 12, 21), 69.65, 18.96)
    assert summer.set_s - summer.rise_s == pytest.approx(86400, abs=60)
    assert winter.set_s == winter.rise_s
    for pole in (90.0, -90.0):
        assert daylight(date(2026, 6, 21), pole, 0.0).set_s >= daylight(date(2026, 6, 21), pole, 0.0).rise_s


def test_days_follow_each_other_without_jumps():
    before = daylight(date(2024, 1, 1), 55.0, -150.0)
    for number in range(1, 800):
        found = daylight(date(2024, 1, 1) + timedelta(days=number), 55.0, -150.0)
        assert abs(found.rise_s - before.rise_s - 86400) < 240
        assert datetime.fromtimestamp(found.rise_s, timezone.utc).hour in range(13, 20)
        before = found
