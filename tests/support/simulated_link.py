"""A link and a camera in simulated time, millisecond by millisecond: for tests of the control law, without sleeps."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_SEGMENT_BYTES, _HEAD_BYTES = 1448, 52
_SHARES = (0.34, 0.30, 0.19, 0.17)
LEAST_BYTES = 800


@dataclass
class Result:
    """What became of a run; delays of base layers from capture, in the order of arrival."""

    base_delays_s: list[float] = field(default_factory=list)
    captured_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)
    delivered_bytes: int = 0
    usable_bytes: float = 0.0
    skipped: int = 0
    dropped_layers: int = 0
    frames: int = 0
    most_queued_bytes: int = 0
    packed_bytes: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.delivered_bytes / self.usable_bytes

    def delay_s(self, percentile: float) -> float:
        return float(np.percentile(self.base_delays_s, percentile))


def simulate(control: Any, bytes_per_ms: np.ndarray, *, fps: float = 10, delay_s: float = 0.025) -> Result:
    """Run `control` as the sender would, with a frame of at most 30 kB each 1/fps seconds."""
    result = Result()
    step_ms = round(1000 / fps)
    queue: deque[list[Any]] = deque()
    events: list[tuple[float, int, str, dict[str, Any]]] = []
    frame_slot: deque[dict[str, Any]] = deque()
    waiting: tuple[int, float] | None = None
    count, credit, queued = 0, 0.0, 0
    control.connected(0.0, 2 * delay_s)
    for ms, capacity in enumerate(bytes_per_ms):
        now_s = ms / 1000
        credit = min(credit + capacity, max(capacity, 1500.0)) if queue else min(capacity, 1500.0)
        while queue and credit > 0:
            spent = min(credit, queue[0][0])
            queue[0][0] -= spent
            credit -= spent
            if queue[0][0] <= 1e-9:
                _, message, last, size = queue.popleft()
                queued -= size
                if last:
                    count += 2
                    heapq.heappush(events, (now_s + delay_s, count, "came", message))
                    heapq.heappush(events, (now_s + 2 * delay_s, count + 1, "acked", message))
        while events and events[0][0] <= now_s:
            _, _, kind, message = heapq.heappop(events)
            if kind == "acked":
                control.acked(now_s, size_bytes=message["size"], sent_s=message["sent_s"])
                continue
            result.delivered_bytes += message["size"]
            if message["layer"] == 0:
                result.base_delays_s.append(now_s - message["captured_s"])
                result.captured_s.append(message["captured_s"])
                result.sent_s.append(message["sent_s"])
        if ms % step_ms == 0:
            result.usable_bytes += min(float(bytes_per_ms[ms : ms + step_ms].sum()), 30_000.0)
            result.skipped += waiting is not None
            waiting = (result.frames, now_s)
            result.frames += 1
        budget_bytes = control.budget_bytes(now_s) if waiting is not None else None
        if waiting is not None and budget_bytes is not None:
            number, captured_s = waiting
            waiting = None
            if budget_bytes < LEAST_BYTES:
                result.skipped += 1
            else:
                result.packed_bytes.append(budget_bytes)
                result.dropped_layers += len(frame_slot)
                frame_slot = deque(
                    {"frame": number, "layer": layer, "size": int(budget_bytes * share), "captured_s": captured_s}
                    for layer, share in enumerate(_SHARES)
                )
        while frame_slot and control.room(now_s, size_bytes=frame_slot[0]["size"], base=frame_slot[0]["layer"] == 0):
            message = frame_slot.popleft()
            message["sent_s"] = now_s
            control.sent(now_s, size_bytes=message["size"], base=message["layer"] == 0)
            left = message["size"]
            while left > 0:
                size = min(_SEGMENT_BYTES, left)
                left -= size
                queue.append([float(size + _HEAD_BYTES), message, left <= 0, size])
                queued += size
        result.most_queued_bytes = max(result.most_queued_bytes, queued)
    return result
