"""Schedule of a sender: how many frames a second it sends at which time, by clock and by sun.

One rule is `FROM..TO=FPS`, where FROM and TO are times of the local clock or of the sun:

    06:30..22:00=1    sunset..sunrise=0.05    sunrise-0:30..sunset+0:30=2    22:00..05:00=0

The first rule that holds now counts, else the rate that the stream has anyway. 0 frames a second is a rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

from edgesem.errors import UsageError
from runtime.daemon.sun import daylight

_RULE = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+?)\s*=\s*([0-9]+(?:\.[0-9]+)?)\s*")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_SUN = re.compile(r"(sunrise|sunset)(?:([+-])([0-9]{1,2}):([0-9]{2}))?")
_LEAST_FPS = 0.001


class Position(NamedTuple):
    """Where a camera is, in degrees; north and east are positive."""

    latitude: float
    longitude: float


@dataclass(frozen=True)
class _Moment:
    """A time of each day: `clock`, `sunrise` or `sunset`, and seconds after midnight or after that."""

    kind: str
    offset_s: int

    @classmethod
    def parse(cls, text: str, rule: str) -> _Moment:
        clock, sun = _CLOCK.fullmatch(text), _SUN.fullmatch(text)
        if clock is not None and int(clock[1]) * 60 + int(clock[2]) <= 24 * 60 and int(clock[2]) < 60:
            return cls("clock", (int(clock[1]) * 60 + int(clock[2])) * 60)
        if sun is not None and int(sun[4] or 0) < 60:
            minutes = int(sun[3] or 0) * 60 + int(sun[4] or 0)
            return cls(sun[1], (-60 if sun[2] == "-" else 60) * minutes)
        raise UsageError(
            f"schedule: {text[:40]!r} in {rule[:80]!r} is no time: write 06:30, sunrise, sunset, or sunset+0:30"
        )

    def on(self, day: date, position: Position | None, zone: tzinfo | None) -> float:
        """When it is on one day, in Unix seconds."""
        if self.kind == "clock":
            # By the wall clock: the days on which it is set forward or back have 23 and 25 hours.
            over, seconds = divmod(self.offset_s, 86400)
            there = day + timedelta(days=over)
            hour, minute = divmod(seconds // 60, 60)
            return datetime(there.year, there.month, there.day, hour, minute, tzinfo=zone).timestamp()
        assert position is not None
        sun = daylight(day, *position)
        return (sun.rise_s if self.kind == "sunrise" else sun.set_s) + self.offset_s


@dataclass(frozen=True)
class _Rule:
    begin: _Moment
    end: _Moment
    fps: float

    @classmethod
    def parse(cls, text: str) -> _Rule:
        found = _RULE.fullmatch(text)
        if found is None:
            raise UsageError(f"schedule: {text[:80]!r} is no rule: write FROM..TO=FPS, such as sunset..sunrise=0.1")
        fps = float(found[3])
        if fps and not _LEAST_FPS <= fps <= 60:
            raise UsageError(f"schedule: {fps:g} in {text[:80]!r} must be 0, or {_LEAST_FPS:g} to 60 frames a second")
        return cls(_Moment.parse(found[1], text), _Moment.parse(found[2], text), fps)

    @property
    def needs_position(self) -> bool:
        return (self.begin.kind, self.end.kind) != ("clock", "clock")

    def holds(self, now_s: float, today: date, position: Position | None, zone: tzinfo | None) -> bool:
        for days in (-1, 0, 1):  # it may have begun yesterday; a far position has its day at our night
            day = today + timedelta(days=days)
            begin_s, end_s = self.begin.on(day, position, zone), self.end.on(day, position, zone)
            polar_night = end_s == begin_s and self.begin.kind == "sunrise"
            if end_s <= begin_s and not polar_night:
                end_s = self.end.on(day + timedelta(days=1), position, zone)
            if begin_s <= now_s < end_s:
                return True
        return False


class Schedule:
    """Frame rates by time of day. Raises UsageError for a rule that is none, or one of the sun without a `position`.

    `zone` is that of the clock, by default the system's.
    """

    def __init__(self, rules: Sequence[str], position: Position | None = None, zone: tzinfo | None = None) -> None:
        self._rules = [_Rule.parse(rule) for rule in rules]
        self._position, self._zone = position, zone
        if position is None and any(rule.needs_position for rule in self._rules):
            raise UsageError(
                "schedule: sunrise and sunset need a position: name schedule.latitude and schedule.longitude"
            )

    def fps(self, now_s: float, otherwise: float) -> float:
        """The rate at a time in Unix seconds; `otherwise` where no rule holds."""
        today = datetime.fromtimestamp(now_s, self._zone).date()
        found = (rule.fps for rule in self._rules if rule.holds(now_s, today, self._position, self._zone))
        return next(found, otherwise)
