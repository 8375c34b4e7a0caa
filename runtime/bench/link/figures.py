"""Figures of a bench run: what was used of the link, how late frames were, how old the picture was, and how good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS
from edgesem.trace import Trace
from runtime.bench.link.clip import Clip
from runtime.receiver.frame_queue import FULLER_S
from runtime.receiver.streams import PATIENCE_S
from runtime.settings import MAX_FRAME_BYTES

_MQTT_BYTES = 5  # of a PUBLISH besides topic and payload
_AGE_STEP_S = 0.01
_PHASES = 4  # how often within an interval the shown picture is judged
_OUTAGE_S = 0.5
_NOTICE_S = 0.2


@dataclass
class ReceivedFrame:
    """A frame as far as it was received: time of capture, and arrival of each layer."""

    captured_s: float
    index: int
    """In the clip."""
    q: int
    layers_s: dict[int, float] = field(default_factory=dict)

    def prefix(self, at_s: float = float("inf")) -> int:
        """How many layers, from the base layer on without a hole, were there at that time."""
        count = 0
        while count in self.layers_s and self.layers_s[count] <= at_s:
            count += 1
        return count


@dataclass(frozen=True)
class RunLog:
    """Everything that was logged in one run over a clip. All times are seconds of one clock.

    sender: `begin_s`, `captured_s` (of each picture), `events` (of the sender), `states` (of its rate control, one a
    picture), `undelivered` (promised frames). receiver: `arrivals` as (time, frame, first layer or -1 for a promised
    frame, layers, q, payload bytes, topic bytes), `promised` (their frame numbers).
    """

    clip: Clip
    trace: Trace
    offset_s: float
    start_s: float
    """When the trace was at its offset."""
    fps: float
    seconds: float
    sender: dict[str, Any]
    receiver: dict[str, Any]
    whole_only: bool = False
    """A frame counts only once all of its layers are there."""

    def trace_s(self, at_s: float) -> float:
        """The place in the trace at a time of the run."""
        return at_s - self.start_s + self.offset_s


def figures(log: RunLog) -> dict[str, Any]:
    """The figures of one run. Delays are from capture; those of a sender without layers are to its last byte."""
    begin_s = log.sender["begin_s"]
    end_s = begin_s + log.seconds
    frames, messages = _received(log)
    ready = _ready_times(frames, log.whole_only)
    base = [at_s - frames[number].captured_s for number, at_s in ready.items()]
    last = [max(frame.layers_s.values()) - frame.captured_s for frame in frames.values()]
    usable, offered = _usable_bytes(log)
    delivered = [(payload, message) for at_s, payload, message in messages if begin_s <= at_s < end_s]
    return {
        "usable_share": sum(message for _, message in delivered) / max(1.0, usable),
        "payload_share": sum(payload for payload, _ in delivered) / max(1.0, usable),
        "base_delay_p50_s": percentile(base, 50),
        "base_delay_p95_s": percentile(base, 95),
        "last_delay_p95_s": percentile(last, 95),
        "age_p95_s": percentile(_ages(log, frames, ready), 95),
        "quality": _quality(log, frames),
        "skipped": len(log.sender["captured_s"]) - len(ready) - len(set(log.receiver["promised"])),
        "lost_promised": log.sender["undelivered"],
        "promised": sum(event["event"] == "promised" for event in log.sender["events"]),
        "frames": len(log.sender["captured_s"]),
        "delivered_bps": sum(message for _, message in delivered) * 8 / log.seconds,
        "usable_bps": usable * 8 / log.seconds,
        "capacity_bps": offered * 8 / log.seconds,
        **_after_outages(log, frames, ready),
    }


def series(log: RunLog, bin_s: float = 0.5) -> dict[str, list[float | None]]:
    """Over time, for plots: capacity, delivered bytes, the control's estimate (bit/s), delay of base layers and age."""
    begin_s = log.sender["begin_s"]
    frames, messages = _received(log)
    ready = _ready_times(frames, log.whole_only)
    edges = np.arange(0, log.seconds + 1e-9, bin_s)
    capacity = [
        log.trace.between_bytes(log.trace_s(begin_s + at), log.trace_s(begin_s + at + bin_s)) for at in edges[:-1]
    ]
    arrived_s, weights = [at_s - begin_s for at_s, _, _ in messages], [size for _, _, size in messages]
    delivered = np.histogram(arrived_s, edges, weights=weights)[0]
    delays = sorted((at_s - begin_s, at_s - frames[number].captured_s) for number, at_s in ready.items())
    return {
        "time_s": [float(at) for at in edges[:-1]],
        "capacity_bps": [float(one) * 8 / bin_s for one in capacity],
        "delivered_bps": [float(one) * 8 / bin_s for one in delivered],
        "estimate_time_s": [at_s - begin_s for at_s in log.sender["captured_s"]],
        "estimate_bps": [one["capacity_bps"] for one in log.sender["states"]],
        "delay_time_s": [at for at, _ in delays],
        "base_delay_s": [delay for _, delay in delays],
        "age_s": [float(age) for age in _ages(log, frames, ready)[:: max(1, round(bin_s / _AGE_STEP_S))]],
    }


def ages(begin_s: float, seconds: float, arrivals: Iterable[tuple[float, float]]) -> NDArray[np.float64]:
    """Age of the newest picture each 10 ms, in seconds; before the first picture, the time since the start.

    arrivals: (arrival, capture) of each picture.
    """
    ordered = sorted(arrivals)
    moments = begin_s + np.arange(0, seconds, _AGE_STEP_S)
    newest = np.maximum.accumulate([begin_s, *(captured_s for _, captured_s in ordered)])
    return np.asarray(moments - newest[np.searchsorted([at_s for at_s, _ in ordered], moments, "right")])


def percentile(values: Sequence[float] | NDArray[np.float64], percent: float) -> float | None:
    """The interpolated percentile, or None of no values."""
    return float(np.percentile(values, percent)) if len(values) else None


def _received(log: RunLog) -> tuple[dict[int, ReceivedFrame], list[tuple[float, int, int]]]:
    """The ordinary frames by number, and (arrival, payload bytes, message bytes) of every message."""
    ticks = {event["frame"]: int(event["name"]) for event in log.sender["events"] if event["event"] == "packed"}
    captured_s = log.sender["captured_s"]
    frames: dict[int, ReceivedFrame] = {}
    messages = []
    for at_s, number, first, count, q, payload_bytes, topic_bytes in log.receiver["arrivals"]:
        messages.append((at_s, payload_bytes, payload_bytes + topic_bytes + _MQTT_BYTES))
        if first < 0 or number not in ticks:
            continue
        if number not in frames:
            tick = ticks[number]
            frames[number] = ReceivedFrame(captured_s[tick], log.clip.index(tick), q)
        for layer in range(first, first + count):
            frames[number].layers_s.setdefault(layer, at_s)
    return frames, messages


def _ready_times(frames: dict[int, ReceivedFrame], whole_only: bool) -> dict[int, float]:
    """When each frame could first be shown, of those that could."""
    if not whole_only:
        return {number: frame.layers_s[0] for number, frame in frames.items() if 0 in frame.layers_s}
    return {number: max(f.layers_s.values()) for number, f in frames.items() if f.prefix() == MAX_LAYERS}


def _usable_bytes(log: RunLog) -> tuple[float, float]:
    """What the link offered that one frame each interval could have used, and all that it offered."""
    begin_s, step_s = log.sender["begin_s"], 1 / log.fps
    topic_bytes = max((one[-1] for one in log.receiver["arrivals"]), default=0)
    overhead_bytes = MAX_LAYERS * (topic_bytes + _MQTT_BYTES) + (MAX_LAYERS - 1) * HEADER_BYTES
    usable = offered = 0.0
    for tick in range(round(log.seconds * log.fps)):
        at_s = log.trace_s(begin_s + tick * step_s)
        capacity = log.trace.between_bytes(at_s, at_s + step_s)
        offered += capacity
        usable += min(capacity, log.clip.largest_bytes(log.clip.index(tick), MAX_FRAME_BYTES) + overhead_bytes)
    return usable, offered


def _ages(log: RunLog, frames: dict[int, ReceivedFrame], ready: dict[int, float]) -> NDArray[np.float64]:
    arrivals = ((at_s, frames[number].captured_s) for number, at_s in ready.items())
    return ages(log.sender["begin_s"], log.seconds, arrivals)


def _quality(log: RunLog, frames: dict[int, ReceivedFrame]) -> float:
    """Mean over time of how well the picture on the receiver's screen shows what the camera sees at that moment.

    A frame is shown as `runtime.receiver.inbox` has it: when it is whole, when a later one begins, or when
    `PATIENCE_S` have passed since its latest layer, and again if more layers come; but a base layer alone not in place
    of a fuller frame that is less than `FULLER_S` older. Until the next it stays, and counts for what it is then worth.
    Before the first picture it is 0.
    """
    begin_s, step_s = log.sender["begin_s"], 1 / log.fps
    shows: list[tuple[float, float, ReceivedFrame, int]] = []
    by_capture = sorted(frames.values(), key=lambda frame: frame.captured_s)
    for place, frame in enumerate(by_capture):
        later = by_capture[place + 1 : place + 3]
        next_s = min((at_s for one in later for at_s in one.layers_s.values()), default=float("inf"))
        arrivals = sorted(at_s for at_s in frame.layers_s.values() if at_s <= next_s)
        for at_s, following_s in zip(arrivals, [*arrivals[1:], float("inf")], strict=True):
            layers = frame.prefix(at_s)
            shown_s = at_s if layers == MAX_LAYERS else min(at_s + PATIENCE_S, next_s)
            if layers and shown_s <= following_s and (layers == MAX_LAYERS or not log.whole_only):
                shows.append((frame.captured_s, shown_s, frame, layers))
    shows.sort(key=lambda show: show[1])
    total, count, place = 0.0, 0, 0
    newest: tuple[float, float, ReceivedFrame, int] | None = None
    fuller_s = float("-inf")
    for tick in range(round(log.seconds * log.fps)):
        for phase in range(_PHASES):
            now_s = begin_s + (tick + phase / _PHASES) * step_s
            count += 1
            while place < len(shows) and shows[place][1] <= now_s:
                captured_s, _, _, layers = show = shows[place]
                place += 1
                if layers > 1:
                    fuller_s = max(fuller_s, captured_s)
                if (newest is None or captured_s >= newest[0]) and (layers > 1 or captured_s - fuller_s >= FULLER_S):
                    newest = show
            if newest is not None:
                _, _, shown, layers = newest
                total += log.clip.quality(shown.index, shown.q, layers, log.clip.index(tick))
    return total / max(1, count)


def _after_outages(log: RunLog, frames: dict[int, ReceivedFrame], ready: dict[int, float]) -> dict[str, Any]:
    """Age of the first new frame when it arrives after the link was away for half a second or more.

    New is what was taken 0.2 s into the outage or later: what left before could not be called back, and no sender
    knows of an outage at its first moment. An outage is over when the link carries something again.
    """
    begin_s = log.sender["begin_s"]
    per_ms = log.trace.bytes_per_ms
    first_ms = round(log.trace_s(begin_s) * 1000)
    window = per_ms[(first_ms + np.arange(round(log.seconds * 1000))) % len(per_ms)] > 0
    ends = np.flatnonzero(np.diff(np.concatenate([[True], window, [True]]).astype(int)))
    delays = []
    for gone_ms, back_ms in zip(ends[::2], ends[1::2], strict=True):
        if (back_ms - gone_ms) / 1000 < _OUTAGE_S or back_ms >= len(window):
            continue
        since_s = begin_s + gone_ms / 1000 + _NOTICE_S
        fresh = [(at_s, frames[number].captured_s) for number, at_s in ready.items()]
        fresh = [(at_s, captured_s) for at_s, captured_s in fresh if captured_s >= since_s]
        if fresh:
            at_s, captured_s = min(fresh)
            delays.append(at_s - captured_s)
    return {
        "outages": len(delays),
        "after_outage_p50_s": percentile(delays, 50),
        "after_outage_max_s": max(delays, default=None),
    }
