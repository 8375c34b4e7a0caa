"""Status of each camera of a fleet, by what its sender says of itself, and what needs attention first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from runtime.fleet.listener import FleetListener, HeardStream
from runtime.protocol.birth import Birth
from runtime.protocol.clock import unix_ms
from runtime.protocol.state import State
from runtime.protocol.topics import Topics

T = TypeVar("T")

_MISSED = 3
"""A sender of which so many states in a row have not come is silent."""
_LATE_S = 10.0
"""A picture may be so old, or three frames old where that is more."""


@dataclass(frozen=True)
class CameraStatus:
    """Status of one camera, None for what it has not told."""

    stream: str
    attention: str
    """What is wrong, in words; empty if nothing is."""
    urgency: int
    """0: nothing is wrong; the larger, the sooner somebody should look."""
    up: bool
    age_s: float | None
    """Since the capture of the newest frame that a receiver has."""
    link_bps: int | None
    rtt_s: float | None
    budget_bytes: int | None
    """Of the newest frame."""
    data_left_bytes: int | None
    """What is left of its data budget."""
    promised_waiting: int | None
    fps: float | None
    bundle: str | None
    """The bundle's id in hexadecimal."""
    version: str | None
    """The sending program."""
    groups: tuple[str, ...]
    said_s: float | None
    """Since its last state; the figures are of then."""
    event: str | None
    """The last event that was heard: its label, or what has caused it."""
    event_s: float | None
    """Since it began."""


def fleet_status(
    heard: Sequence[HeardStream],
    *,
    now_ms: int,
    now_s: float = 0.0,
    groups: Mapping[str, Collection[str]] | None = None,
) -> list[CameraStatus]:
    """Status of all cameras, the most urgent first. `groups` has the groups of each stream (SITE/DEVICE/STREAM) of the
    inventory, if there is one: then a stream that is missing there, or was not heard, needs attention. `now_ms` is Unix
    milliseconds, `now_s` monotonic seconds."""
    streams = {one.name: one for one in heard}
    for name in groups or {}:
        streams.setdefault(name, HeardStream(Topics.named(name)))
    bundle = _usual(one.birth.bundle_id for one in heard if one.birth is not None)
    program = _usual(one.birth.program for one in heard if one.birth is not None)
    found = []
    for name, one in streams.items():
        troubles = list(_troubles(one, _said_s(one, now_ms, now_s)))
        if groups is not None and name not in groups:
            troubles.append((40, "not in the inventory"))
        if one.birth is not None and bundle is not None and one.birth.bundle_id != bundle:
            troubles.append((20, f"bundle {one.birth.bundle_id:04x}, most have {bundle:04x}"))
        if one.birth is not None and one.birth.program != program:
            troubles.append((10, f"program {one.birth.program}, most have {program}"))
        troubles.sort(reverse=True)
        in_groups = tuple(sorted((groups or {}).get(name, ())))
        found.append(_status(one, troubles, in_groups, now_ms, now_s))
    return sorted(found, key=lambda status: (-status.urgency, status.stream))


class FleetView:
    """The fleet that a listener hears, as it is at the moment. Thread-safe. `groups` are those of `fleet_status`; only
    the streams in `chosen` are shown, all if it is None."""

    def __init__(
        self,
        listener: FleetListener,
        groups: Mapping[str, Collection[str]] | None = None,
        chosen: Collection[str] | None = None,
    ) -> None:
        self.listener, self._groups, self._chosen = listener, groups, chosen

    def cameras(self) -> list[CameraStatus]:
        """All cameras, the most urgent first."""
        found = fleet_status(self.listener.heard(), now_ms=unix_ms(), now_s=time.monotonic(), groups=self._groups)
        return [one for one in found if self._chosen is None or one.stream in self._chosen]


def _said_s(one: HeardStream, now_ms: int, now_s: float) -> float | None:
    """Since its last state: by our own clock if we have heard that as it was said, else by the sender's."""
    if one.last_state is not None:
        return max(0.0, now_s - one.last_state[0])
    return None if one.state is None else max(0.0, (now_ms - one.state.time_ms) / 1000)


def _troubles(one: HeardStream, said_s: float | None) -> Iterable[tuple[int, str]]:
    """What is wrong by the sender's own words, with how urgent it is."""
    state, birth = one.state, one.birth
    if state is None:
        yield (100, "never heard") if birth is None else (80, "no state: it has just begun, or its broker retains none")
        return
    if not state.up:
        yield 100, "gone: it has ended, or lost its link"
        return
    if said_s is not None and said_s > _MISSED * state.interval_s:
        yield 90, f"silent: its last state is {said_s:.0f} s old"
    if state.promised_lost:
        yield 85, f"{state.promised_lost} promised frames lost on its disk"
    if state.promised_refused:
        yield 75, f"{state.promised_refused} promised frames had no room on its disk"
    if state.promised_rejected:
        yield 70, f"{state.promised_rejected} promised frames that nobody takes"
    if state.data is not None and state.data.left_bytes == 0:
        yield 65, "its data budget is spent"
    yield from _late(state, birth)
    if state.refused:
        yield 50, f"the broker refused {state.refused} messages"
    if state.promised_waiting:
        yield 30, f"{state.promised_waiting} promised frames wait"
    if state.paused:
        yield 5, "paused"


def _late(state: State, birth: Birth | None) -> Iterable[tuple[int, str]]:
    if state.paused or state.live == "idle":  # thumbnails come at a pace of their own, which is not told
        return
    if state.age_s is None:
        yield 60, "no receiver has a picture of it"
        return
    frame_s = 1 / birth.fps if birth is not None and birth.fps > 0 else 0.0
    if state.age_s > max(_LATE_S, _MISSED * frame_s):
        yield 60, f"its newest picture is {state.age_s:.0f} s old"


def _status(
    one: HeardStream, troubles: list[tuple[int, str]], groups: tuple[str, ...], now_ms: int, now_s: float
) -> CameraStatus:
    birth = one.birth
    state = one.state if one.state is not None and one.state.up else None  # a will has no figures
    return CameraStatus(
        stream=one.name,
        attention="; ".join(words for _, words in troubles),
        urgency=troubles[0][0] if troubles else 0,
        up=state is not None,
        age_s=None if state is None else state.age_s,
        link_bps=None if state is None else state.capacity_bps,
        rtt_s=None if state is None else state.rtt_s,
        budget_bytes=None if state is None else state.budget_bytes,
        data_left_bytes=None if state is None or state.data is None else state.data.left_bytes,
        promised_waiting=None if state is None else state.promised_waiting,
        fps=one.fps,
        bundle=None if birth is None else f"{birth.bundle_id:04x}",
        version=None if birth is None else birth.program,
        groups=groups,
        said_s=_said_s(one, now_ms, now_s),
        event=None if one.event is None else one.event.label or one.event.cause,
        event_s=None if one.event is None else max(0.0, (now_ms - one.event.time_ms) / 1000),
    )


def _usual(values: Iterable[T]) -> T | None:
    """The most frequent value; None without any."""
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else None
