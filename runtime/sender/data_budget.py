"""Data budget: how many bytes a stream may cost an hour, a day, a billing month, and what a frame may have of them.

wire bytes, as the kernel counts them -> account of each period, on disk -> rate that lasts to its end -> credit
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

from edgesem.errors import InputError
from runtime.protocol.state import DataUsage

log = logging.getLogger(__name__)

_EVENT_BURST_SHARE = 0.1  # of the period: events may have so much of their part ahead of the time
_MESSAGE_BYTES = 300  # that a promised frame costs on the wire beside its own, with its confirmations
_ALARM_PERIOD_SHARE = 1 / 30  # alarms are looked at over this part of a period at least, for the forecast
_FLOOR_SHARE = 0.01  # of a limit, kept for alarms to the very end
_STILL_S = 3600.0
_SAVE_BYTES, _SAVE_SHARE = 20_000, 0.0005
_KINDS = ("hour", "day", "month")
_KEPT_PERIODS = 6  # of each kind
_JUMP_S = 60.0
_IDLE_BPS = 6.0  # bytes a second of a connection on which no frame is sent, at first: pings, states, births
_IDLE_AVERAGE_S, _LONGEST_SAMPLE_S = 3600.0, 300.0
_IDLE_MARGIN = 0.1  # it may become more
_ANSWERS_S = 5.0  # after a message, what comes belongs to it
_LONGEST_CREDIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class DataLimits:
    """Limits of bytes on the wire, in both directions; 0: none. One that is reached does not wait for the others."""

    hour_bytes: int = 0
    day_bytes: int = 0
    month_bytes: int = 0
    month_day: int = 1
    """Day on which the billing month begins, 1 to 28."""
    alarm_share: float = 0.1
    """What ordinary frames leave for alarms: promised frames, as those of queries and snapshots."""
    event_share: float = 0.5
    """Of each limit, what events may have that nobody asked for, spread over the period; 0: none begins."""
    at_end: str = "alarms"
    """What goes when ordinary frames have used up their part: `alarms`; `stills`, one frame an hour and alarms; `stop`,
    nothing."""
    frame_bytes: int = 1500
    """Rather fewer frames than frames of less than that."""


@dataclass(frozen=True)
class _Period:
    """One period that has a limit, at one moment."""

    kind: str
    """hour, day or month."""
    name: str
    """Of the account: kind and begin."""
    limit_bytes: int
    length_s: float
    left_s: float

    @property
    def passed(self) -> float:
        """Which share of it has passed."""
        return 1 - self.left_s / self.length_s


def _events(period: _Period) -> str:
    """Name of the account of a period's events."""
    return f"{period.name} events"


def _alarms(period: _Period) -> str:
    """Of its other promised frames."""
    return f"{period.name} alarms"


def _uptime_s() -> float:
    """Seconds since the device's start, with those in which it slept where the system counts them."""
    with_sleep = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if with_sleep is None else time.clock_gettime(with_sleep)


class DataBudget:
    """Account of the bytes that a stream costs, and the rate that makes them last.

    `spent` takes what went over the wire, `sending` what is about to. `file` keeps the accounts over restarts: its
    owner writes there what `due_accounts` gives, which is ahead of what is spent, and at the end `accounts`. Bytes of a
    period are not forgotten when the clock is set back. If it jumps into another period, what this run has spent in the
    one before counts in the new one too, because nobody knows which one was right. `clock` gives Unix seconds,
    `monotonic` seconds that never jump, also while the device sleeps; `zone` is that of days and months, by default the
    system's. Raises InputError for a damaged file. Not thread-safe: the publisher's lock guards it.
    """

    def __init__(
        self,
        limits: DataLimits,
        file: Path,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = _uptime_s,
        zone: tzinfo | None = None,
    ) -> None:
        self.limits = limits
        self.file = file
        self._clock, self._monotonic, self._zone = clock, monotonic, zone
        self._accounts = _read(file)
        self._offset_s = clock() - monotonic()
        self._known: tuple[int, list[_Period]] | None = None
        self._counted: dict[str, dict[str, int]] = {}
        """Of what this run has spent in the present period of each kind: what stands in which account, if the clock has
        jumped in more than one."""
        self._saved_names: set[str] = set()
        self._saved_bytes = self._unsaved_bytes = 0
        self._underway_bytes = 0
        """What was handed over and is not measured yet."""
        self._credit_bytes, self._credited_s = float(limits.frame_bytes), monotonic()
        self._idle_bps = _IDLE_BPS
        self._measured_s = monotonic()
        self._frame_s = self._sent_s = float("-inf")
        known = [limit for limit in (limits.hour_bytes, limits.day_bytes, limits.month_bytes) if limit]
        self._step_bytes = max(_SAVE_BYTES, int(_SAVE_SHARE * min(known, default=0)))

    def spent(self, wire_bytes: int) -> None:
        """So many bytes went over the wire since the last call."""
        self._look_at_clock()
        now_s = self._monotonic()
        passed_s, self._measured_s = now_s - self._measured_s, now_s
        if passed_s > 0 and self._measured_s - self._sent_s > _ANSWERS_S:
            weight = min(passed_s, _LONGEST_SAMPLE_S) / _IDLE_AVERAGE_S
            self._idle_bps += weight * (wire_bytes / passed_s - self._idle_bps)
        self._add_credit()
        self._charge(max(0, wire_bytes - self._underway_bytes))
        self._underway_bytes = max(0, self._underway_bytes - wire_bytes)
        for period in self._periods():
            counted = self._counted.setdefault(period.kind, {})
            if period.name not in counted:  # the period before has ended
                counted.clear()
            counted[period.name] = counted.get(period.name, 0) + wire_bytes
            self._accounts[period.name] = self._accounts.get(period.name, 0) + wire_bytes
        self._unsaved_bytes += wire_bytes

    def sending(self, size_bytes: int) -> None:
        """A message of this size is about to go; the next calls of `spent` have measured it."""
        self._underway_bytes += size_bytes
        self._sent_s = self._monotonic()
        self._charge(size_bytes)

    def frame_bytes(self) -> int | None:
        """What an ordinary frame may have now, or None: not now."""
        self._add_credit()
        if self._ordinary_bytes() >= self.limits.frame_bytes:
            return int(self._credit_bytes) if self._credit_bytes >= self.limits.frame_bytes else None
        stills = self.limits.at_end == "stills" and self._monotonic() - self._frame_s >= _STILL_S
        return self.limits.frame_bytes if stills and self.may_send(self.limits.frame_bytes) else None

    def took_frame(self) -> None:
        """An ordinary frame was begun."""
        self._frame_s = self._monotonic()

    def may_send(self, size_bytes: int) -> bool:
        """Whether a message of this size, of an alarm too, stays within all limits to their end."""
        if self.limits.at_end == "stop" and self._ordinary_bytes() <= 0:
            return False
        return all(
            self._left_bytes(period) - _IDLE_MARGIN * self._idle_bps * period.left_s >= 1.3 * size_bytes
            for period in self._periods()
        )

    def may_begin_event(self) -> bool:
        """Whether an event that nobody asked for may begin, or go on: while events have had no more than their part of
        each limit, as far as the period has come, and ordinary frames still have something.

        What events have not used is theirs later; a tenth of it they may have ahead, as events come in groups.
        """
        if self._ordinary_bytes() <= 0:
            return False
        return all(
            self._accounts.get(_events(period), 0)
            < min(1.0, _EVENT_BURST_SHARE + period.passed) * self._event_part(period)
            for period in self._periods()
        )

    def promised(self, size_bytes: int, *, event: bool) -> None:
        """A promised frame was put on the disk, of an `event` or not: what it costs is spent when it goes."""
        for period in self._periods():
            name = _events(period) if event else _alarms(period)
            self._accounts[name] = self._accounts.get(name, 0) + size_bytes + _MESSAGE_BYTES

    def usage(self) -> DataUsage | None:
        """The longest period that has a limit; None without one.

        The forecast counts what alarms have cost so far: if they go on like that, and it is more than the limit, that
        is reached before the period's end.
        """
        periods = self._periods()
        if not periods:
            return None
        period = periods[-1]
        spent_bytes = self._accounts.get(period.name, 0)
        rate = max(0.0, min((self._rate(one) for one in periods), default=0.0)) + self._idle_bps
        alarms_bytes = spent_bytes + self._idle_bps * period.left_s + self._coming_alarms(period)
        forecast = round(max(min(period.limit_bytes, spent_bytes + rate * period.left_s), alarms_bytes))
        return DataUsage(spent_bytes, max(0, period.limit_bytes - spent_bytes), max(spent_bytes, forecast))

    def due_accounts(self) -> bytes | None:
        """What is to be written to the file now, so that no crash gives bytes back; None if what is there will do."""
        current = {period.name for period in self._periods()}
        ahead_bytes = self._saved_bytes if current <= self._saved_names else 0  # of a new period nothing is there yet
        return self.accounts(ahead_bytes=self._step_bytes) if self._unsaved_bytes > ahead_bytes else None

    def accounts(self, *, ahead_bytes: int = 0) -> bytes:
        """The accounts as the file has them, as if `ahead_bytes` more were spent, until they are written again."""
        periods = self._periods()
        current = {period.name for period in periods}
        used = current | {name(period) for period in periods for name in (_events, _alarms)}
        for kind in _KINDS:
            known = [name for name in self._accounts if name.startswith(kind) and name not in used]
            for name in known[:-_KEPT_PERIODS]:
                del self._accounts[name]
        told = {name: count + (ahead_bytes if name in current else 0) for name, count in self._accounts.items()}
        self._unsaved_bytes, self._saved_bytes, self._saved_names = 0, ahead_bytes, current
        return json.dumps(told).encode()

    def _periods(self) -> list[_Period]:
        """The periods that have a limit, the shortest first; looked up once a second."""
        second = int(self._clock())
        if self._known is None or self._known[0] != second:
            self._known = second, self._find_periods(float(second))
        return self._known[1]

    def _find_periods(self, now_s: float) -> list[_Period]:
        limits = self.limits
        now = datetime.fromtimestamp(now_s, self._zone)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        begin = midnight.replace(day=limits.month_day)
        if begin > midnight:
            begin = (begin.replace(day=1) - timedelta(days=1)).replace(day=limits.month_day)
        end = (begin.replace(day=28) + timedelta(days=4)).replace(day=limits.month_day)
        hour_s = now_s // 3600 * 3600
        spans = (
            (limits.hour_bytes, hour_s, hour_s + 3600),
            (limits.day_bytes, midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()),
            (limits.month_bytes, begin.timestamp(), end.timestamp()),
        )
        return [
            _Period(kind, f"{kind} {int(from_s)}", limit, to_s - from_s, to_s - now_s)
            for kind, (limit, from_s, to_s) in zip(_KINDS, spans, strict=True)
            if limit
        ]

    def _left_bytes(self, period: _Period) -> float:
        """What messages may still cost in a period: the connection itself costs something until its end."""
        spent_bytes = self._accounts.get(period.name, 0) + self._underway_bytes
        return period.limit_bytes - spent_bytes - self._idle_bps * period.left_s

    def _ordinary_left(self, period: _Period) -> float:
        """What ordinary frames may: alarms keep a reserve, which melts as the time does in which one may come."""
        share = max(_FLOOR_SHARE, self.limits.alarm_share * period.left_s / period.length_s)
        return self._left_bytes(period) - share * period.limit_bytes

    def _event_part(self, period: _Period) -> float:
        return self.limits.event_share * period.limit_bytes

    def _coming_alarms(self, period: _Period) -> float:
        """What alarms will cost until the end of the period, if they go on as they did; events keep to their part."""
        left = period.left_s / max(_ALARM_PERIOD_SHARE * period.length_s, period.length_s - period.left_s)
        events_bytes = self._accounts.get(_events(period), 0)
        coming = max(0.0, min(left * events_bytes, self._event_part(period) - events_bytes))
        return coming + left * self._accounts.get(_alarms(period), 0)

    def _ordinary_bytes(self) -> float:
        return min((self._ordinary_left(period) for period in self._periods()), default=float("inf"))

    def _rate(self, period: _Period) -> float:
        """Bytes a second that ordinary frames may have until the end of the period."""
        return self._ordinary_left(period) / max(1.0, period.left_s)

    def _charge(self, size_bytes: int) -> None:
        """Take from the credit, but not so much that alarms, which have their own part, stop all else for hours."""
        self._credit_bytes = max(-float(self.limits.frame_bytes), self._credit_bytes - size_bytes)

    def _add_credit(self) -> None:
        now_s = self._monotonic()
        passed_s, self._credited_s = now_s - self._credited_s, now_s
        rate = max(0.0, min((self._rate(period) for period in self._periods()), default=float("inf")))
        most_bytes = max(2.0 * self.limits.frame_bytes, _LONGEST_CREDIT_S * rate)
        self._credit_bytes = min(most_bytes, self._credit_bytes + (rate + self._idle_bps) * passed_s)

    def _look_at_clock(self) -> None:
        """What this run has spent in the present period counts in that of the new time too, if the clock jumps."""
        offset_s = self._clock() - self._monotonic()
        if abs(offset_s - self._offset_s) < _JUMP_S:
            return
        self._offset_s = offset_s
        for period in self._periods():
            counted = self._counted.setdefault(period.kind, {})
            spent_bytes = max(counted.values(), default=0)
            missing_bytes = spent_bytes - counted.get(period.name, 0)
            counted[period.name] = spent_bytes
            self._accounts[period.name] = self._accounts.get(period.name, 0) + missing_bytes
        log.info("the clock has jumped: what was spent in the period before counts in the new one too")


def _read(file: Path) -> dict[str, int]:
    try:
        known = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: the account of bytes cannot be read ({error}): delete it to begin anew") from error
    if not isinstance(known, dict) or not all(type(count) is int and count >= 0 for count in known.values()):
        raise InputError(f"{file}: is no account of bytes: delete it to begin anew")
    return known
