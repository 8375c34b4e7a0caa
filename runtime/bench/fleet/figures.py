"""Figures of a load run: what came of what was sent, how late, what each part used, and what binds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from runtime.bench.fleet.process_use import ProcessUse
from runtime.bench.fleet.receiver_process import Shown
from runtime.protocol.shard import shard_of
from runtime.protocol.topics import Topics

SPARE = 0.8
"""Of the processors, a fleet may fill so much."""
LATE_S = 1.0
"""A picture with a longer delay is late."""


@dataclass(frozen=True)
class Delays:
    """From capture to decoded, in seconds; nan without a picture."""

    p50_s: float
    p95_s: float
    p99_s: float

    @classmethod
    def of(cls, shown: Iterable[Shown]) -> Delays:
        """Of these pictures."""
        delays = [one.delay_s for one in shown]
        return cls(*map(float, np.percentile(delays, (50, 95, 99)))) if delays else cls(*[float("nan")] * 3)


def over_time(shown: Iterable[Shown], began_s: float, window_s: float) -> list[dict[str, Any]]:
    """Delays of pictures by when they were captured, in windows of `window_s` seconds from `began_s` on."""
    windows: dict[int, list[Shown]] = {}
    for one in shown:
        windows.setdefault(max(0, int((one.captured_s - began_s) // window_s)), []).append(one)
    return [
        {
            "from_s": round(window * window_s, 3),
            "pictures": len(some),
            **asdict(Delays.of(some)),
            "max_s": max(one.delay_s for one in some),
            "late_streams": len({one.stream for one in some if one.delay_s > LATE_S}),
        }
        for window, some in sorted(windows.items())
    ]


@dataclass(frozen=True)
class Kill:
    """A receiver or a node of the broker was killed, or cut off."""

    kind: str
    """receiver; node; link, of a node that was cut off; or move, of a receiver that gave streams to another one."""
    number: int
    at_s: float
    """Monotonic seconds."""


def repeated(shown: Iterable[Shown], promised: bool) -> int:
    """How many of the promised, or of the other, pictures were shown more than once."""
    counted = Counter((one.stream, one.epoch, one.frame) for one in shown if one.promised == promised)
    return sum(count - 1 for count in counted.values())


def dark_s(shown: Iterable[Shown], since_s: float, until_s: float, interval_s: float) -> list[float]:
    """For each stream that was seen before `since_s`, how much longer than its interval it showed nothing then, up to
    `until_s`, the end of the run, where it was not seen again."""
    times: dict[str, list[float]] = {}
    for one in shown:
        times.setdefault(one.stream, []).append(one.received_s)
    found = []
    for seen in times.values():
        before, after = [s for s in seen if s <= since_s], [s for s in seen if s > since_s]
        if before:
            found.append(max(0.0, min(after, default=until_s) - max(before) - interval_s))
    return found


@dataclass(frozen=True)
class DarkStream:
    """How long one stream was dark, in all of a run."""

    stream: str
    times: int
    """How often its next picture was late by more than `LATE_S`."""
    dark_s: float
    """By how much, in sum."""
    longest_s: float


def dark_streams(
    shown: Iterable[Shown], names: Iterable[str], began_s: float, seconds: float, interval_s: float
) -> list[DarkStream]:
    """How long each of the streams `names` was dark in `seconds` from `began_s` on, the darkest first."""
    ended_s = began_s + seconds
    times: dict[str, list[float]] = {name: [began_s] for name in names}
    for one in shown:
        if began_s < one.received_s < ended_s:
            times[one.stream].append(one.received_s)
    found = []
    for name, seen in times.items():
        gaps = np.diff([*sorted(seen), ended_s]) - interval_s
        late = gaps[gaps > LATE_S]
        found.append(DarkStream(name, len(late), float(late.sum()), float(late.max(initial=0.0))))
    return sorted(found, key=lambda one: (-one.dark_s, one.stream))


def dark_of(
    kills: Sequence[Kill], shown: Sequence[Shown], interval_s: float, shards: int, until_s: float
) -> dict[str, dict[str, Any]]:
    """For each kind of kill how many there were, and how long streams were dark: those of the receiver that was killed,
    or those of the one that gave streams away, or all."""
    found: dict[str, list[list[float]]] = {}
    for kill in kills:
        mine = [
            one
            for one in shown
            if kill.kind not in ("receiver", "move") or shard_of(Topics.named(one.stream), shards) == kill.number
        ]
        found.setdefault(kill.kind, []).append(dark_s(mine, kill.at_s, until_s, interval_s))
    told = {}
    for kind, one_kill in found.items():
        dark = [seconds for one in one_kill for seconds in one]
        p50, p95, most = map(float, np.percentile(dark, (50, 95, 100))) if dark else (0.0, 0.0, 0.0)
        told[kind] = {"kills": len(one_kill), "streams": len(dark), "p50_s": p50, "p95_s": p95, "max_s": most}
    return told


def parts_of(uses: Mapping[str, ProcessUse], seconds: float, pictures: int) -> dict[str, dict[str, Any]]:
    """Each part's share of one core, memory, and processor time for one picture."""
    return {
        name: {
            "cores": round(use.cpu_s / seconds, 3),
            "rss_bytes": use.rss_bytes,
            "cpu_ms_per_picture": round(1000 * use.cpu_s / pictures, 2) if pictures else None,
        }
        for name, use in uses.items()
    }


def what_binds(
    uses: Mapping[str, ProcessUse],
    *,
    seconds: float,
    processors: int,
    others_cores: float,
    single: Sequence[str],
) -> str:
    """The part that will be full first as cameras are added, in words. `single` are parts that use one core at most."""
    used = sum(use.cpu_s for use in uses.values()) / seconds
    most = max(uses, key=lambda name: uses[name].cpu_s)
    full = [name for name in single if uses[name].cpu_s / seconds > SPARE]
    if full:
        return f"{full[0]}: it fills the one core that it can use"
    if used + others_cores > SPARE * processors:
        words = f", of which others on this machine took {others_cores:.1f}" if others_cores > 0.1 * processors else ""
        return f"the {processors} processors are full{words}; most goes to {most}"
    return f"nothing yet; most goes to {most}"
