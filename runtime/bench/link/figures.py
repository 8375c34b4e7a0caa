"""What became of a bench run, in numbers: what was used of the link, how late, how old, how good."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS
from edgesem.trace import Trace
from runtime.bench.link.clip import Clip
from runtime.receiver.inbox import FULLER_S

MAX_BYTES = 30_000
"""The largest frame that a sender may make."""
_HEAD_BYTES = 5  # of a PUBLISH besides topic and payload
_AGE_STEP_S = 0.01
_PHASES = 4  # how often within an interval the shown picture is judged
_PATIENCE_S = 0.3  # of `runtime.receiver.streams`
_OUTAGE_S = 0.5
_NOTICE_S = 0.2


@dataclass
class Shown:
    """A frame as far as it has come: capture, and the arrival of each layer."""

    captured_s: float
    index: int
    q: int
    layers_s: dict[int, float] = field(default_factory=dict)

    def prefix(self, at_s: float = float("inf")) -> int:
        """How many layers from the base on were there at that time."""
        count = 0
        while count in self.layers_s and self.layers_s[count] <= at_s:
            count += 1
        return count


@dataclass(frozen=True)
class Run:
    """What both ends and the link have written down."""

    clip: Clip
    trace: Trace
    offset_s: float
    start_s: float
    """When the trace was at its offset."""
    fps: float
    seconds: float
    near: dict[str, Any]
    far: dict[str, Any]
    whole_only: bool = False


def figures(run: Run) -> dict[str, Any]:
    """The figures of one run. Delays are from capture; those of a sender without layers are to its last byte."""
    begin_s = run.near["begin_s"]
    end_s = begin_s + run.seconds
    frames, sizes = _frames(run)
    ready = _ready_times(frames, run.whole_only)
    base = np.array([at_s - frames[number].captured_s for number, at_s in ready.items()])
    last = np.array([max(frame.layers_s.values()) - frame.captured_s for frame in frames.values()])
    usable, offered = _usable_bytes(run)
    delivered = [(at_s, payload, message) for at_s, payload, message in sizes if begin_s <= at_s < end_s]
    return {
        "usable_share": sum(message for _, _, message in delivered) / max(1.0, usable),
        "payload_share": sum(payload for _, payload, _ in delivered) / max(1.0, usable),
        "base_delay_p50_s": _percentile(base, 50),
        "base_delay_p95_s": _percentile(base, 95),
        "last_delay_p95_s": _percentile(last, 95),
        "age_p95_s": _percentile(_ages(run, frames, ready), 95),
        "quality": _quality(run, frames),
        "skipped": len(run.near["captured_s"]) - len(ready) - len(set(run.far["promised"])),
        "lost_promised": run.near["waiting"],
        "promised": sum(told["event"] == "promised" for told in run.near["told"]),
        "frames": len(run.near["captured_s"]),
        "delivered_bps": sum(message for _, _, message in delivered) * 8 / run.seconds,
        "usable_bps": usable * 8 / run.seconds,
        "capacity_bps": offered * 8 / run.seconds,
        **_after_outages(run, frames, ready),
    }


def series(run: Run, bin_s: float = 0.5) -> dict[str, list[float | None]]:
    """Over time, for plots: capacity, delivered bytes, the control's estimate (bit/s), delay of base layers and age."""
    begin_s = run.near["begin_s"]
    frames, sizes = _frames(run)
    ready = _ready_times(frames, run.whole_only)
    edges = np.arange(0, run.seconds + 1e-9, bin_s)
    capacity = [
        run.trace.between_bytes(_trace_s(run, begin_s + at), _trace_s(run, begin_s + at + bin_s)) for at in edges[:-1]
    ]
    delivered = np.histogram([at_s - begin_s for at_s, _, _ in sizes], edges, weights=[size for _, _, size in sizes])[0]
    delays = sorted((at_s - begin_s, at_s - frames[number].captured_s) for number, at_s in ready.items())
    state = run.near["state"]
    return {
        "time_s": [float(at) for at in edges[:-1]],
        "capacity_bps": [float(one) * 8 / bin_s for one in capacity],
        "delivered_bps": [float(one) * 8 / bin_s for one in delivered],
        "estimate_time_s": [at_s - begin_s for at_s in run.near["captured_s"]],
        "estimate_bps": [one["capacity_bps"] for one in state],
        "delay_time_s": [at for at, _ in delays],
        "base_delay_s": [delay for _, delay in delays],
        "age_s": [float(age) for age in _ages(run, frames, ready)[:: max(1, round(bin_s / _AGE_STEP_S))]],
    }


def _frames(run: Run) -> tuple[dict[int, Shown], list[tuple[float, int, int]]]:
    """The ordinary frames by number, and (arrival, payload bytes, message bytes) of every message."""
    ticks = {told["frame"]: int(told["name"]) for told in run.near["told"] if told["event"] == "packed"}
    captured_s = run.near["captured_s"]
    frames: dict[int, Shown] = {}
    sizes = []
    for at_s, number, first, count, q, payload_bytes, topic_bytes in run.far["came"]:
        sizes.append((at_s, payload_bytes, payload_bytes + topic_bytes + _HEAD_BYTES))
        if first < 0 or number not in ticks:
            continue
        if number not in frames:
            tick = ticks[number]
            frames[number] = Shown(captured_s[tick], run.clip.index(tick), q)
        for layer in range(first, first + count):
            frames[number].layers_s.setdefault(layer, at_s)
    return frames, sizes


def _ready_times(frames: dict[int, Shown], whole_only: bool) -> dict[int, float]:
    """When each frame could first be shown, those that could."""
    if not whole_only:
        return {number: frame.layers_s[0] for number, frame in frames.items() if 0 in frame.layers_s}
    return {number: max(f.layers_s.values()) for number, f in frames.items() if f.prefix() == MAX_LAYERS}


def _trace_s(run: Run, at_s: float) -> float:
    return at_s - run.start_s + run.offset_s


def _usable_bytes(run: Run) -> tuple[float, float]:
    """What the link offered that a frame each interval could have used, and all that it offered."""
    begin_s, step_s = run.near["begin_s"], 1 / run.fps
    topic_bytes = max((one[-1] for one in run.far["came"]), default=0)
    around_bytes = MAX_LAYERS * (topic_bytes + _HEAD_BYTES) + (MAX_LAYERS - 1) * HEADER_BYTES
    usable = offered = 0.0
    for tick in range(round(run.seconds * run.fps)):
        at_s = _trace_s(run, begin_s + tick * step_s)
        capacity = run.trace.between_bytes(at_s, at_s + step_s)
        offered += capacity
        usable += min(capacity, run.clip.largest_bytes(run.clip.index(tick), MAX_BYTES) + around_bytes)
    return usable, offered


def _ages(run: Run, frames: dict[int, Shown], ready: dict[int, float]) -> NDArray[np.float64]:
    """The age of what is shown, each 10 ms; before the first picture, the time since the start."""
    begin_s = run.near["begin_s"]
    arrivals = sorted((at_s, frames[number].captured_s) for number, at_s in ready.items())
    at_s = np.array([at for at, _ in arrivals] or [float("inf")])
    newest = np.maximum.accumulate([captured for _, captured in arrivals] or [begin_s])
    moments = begin_s + np.arange(0, run.seconds, _AGE_STEP_S)
    places = np.searchsorted(at_s, moments, "right") - 1
    ages: NDArray[np.float64] = moments - np.where(places >= 0, newest[np.maximum(places, 0)], begin_s)
    return ages


def _quality(run: Run, frames: dict[int, Shown]) -> float:
    """The mean over time of how well the picture on the receiver's screen shows what the camera sees then.

    A frame is shown as `runtime.receiver.inbox` has it: when it is whole, when a later one begins, or when
    `_PATIENCE_S` have passed since its latest layer, and again if more layers come; but a base layer alone not in place
    of a fuller frame that is less than `FULLER_S` older. Until the next it stays, and counts for what it is then worth.
    Before the first picture it is 0.
    """
    begin_s, step_s = run.near["begin_s"], 1 / run.fps
    shows: list[tuple[float, float, Shown, int]] = []
    by_capture = sorted(frames.values(), key=lambda frame: frame.captured_s)
    for place, frame in enumerate(by_capture):
        later = by_capture[place + 1 : place + 3]
        next_s = min((at_s for one in later for at_s in one.layers_s.values()), default=float("inf"))
        arrivals = sorted(at_s for at_s in frame.layers_s.values() if at_s <= next_s)
        for at_s, following_s in zip(arrivals, [*arrivals[1:], float("inf")], strict=True):
            layers = frame.prefix(at_s)
            shown_s = at_s if layers == MAX_LAYERS else min(at_s + _PATIENCE_S, next_s)
            if layers and shown_s <= following_s and (layers == MAX_LAYERS or not run.whole_only):
                shows.append((frame.captured_s, shown_s, frame, layers))
    shows.sort(key=lambda show: show[1])
    total, count, place = 0.0, 0, 0
    newest: tuple[float, float, Shown, int] | None = None
    fuller_s = float("-inf")
    for tick in range(round(run.seconds * run.fps)):
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
                total += run.clip.quality(shown.index, shown.q, layers, run.clip.index(tick))
    return total / max(1, count)


def _after_outages(run: Run, frames: dict[int, Shown], ready: dict[int, float]) -> dict[str, Any]:
    """How old the first new frame is when it arrives after the link was away for half a second or more.

    New is what was taken 0.2 s into the outage or later: what left before could not be called back, and no sender
    knows of an outage at its first moment. An outage is over when the link carries something again.
    """
    begin_s = run.near["begin_s"]
    per_ms = run.trace.bytes_per_ms
    first_ms = round(_trace_s(run, begin_s) * 1000)
    window = per_ms[(first_ms + np.arange(round(run.seconds * 1000))) % len(per_ms)] > 0
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
        "after_outage_p50_s": _percentile(np.array(delays), 50),
        "after_outage_max_s": max(delays, default=None),
    }


def _percentile(values: NDArray[np.float64], share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None
