"""One direction of an emulated link: a FIFO queue that drains as a trace says, then a delay. Time is an argument."""

from __future__ import annotations

import random
from collections import deque

from edgesem.trace import Trace


class Line:
    """Takes packets in and gives them out when they have crossed.

    Millisecond by millisecond the trace's bytes are spent on what stood in the queue by then; a packet leaves once all
    of its bytes are paid for, and arrives `delay_s` later. With a Mahimahi trace what a millisecond does not use is
    lost, as an unused slot of a mobile network is; a steady rate saves nothing either, but a packet under way keeps
    what it has. Without a trace, and before `start_s`, everything only takes its delay.
    """

    def __init__(
        self,
        *,
        trace: Trace | None,
        start_s: float,
        offset_s: float = 0.0,
        delay_s: float = 0.0,
        queue_bytes: int = 256 * 1024,
        loss: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.trace, self.delay_s, self.queue_bytes, self.loss = trace, delay_s, queue_bytes, loss
        self.scale = 1.0
        """All of the trace times this; may be changed at any time."""
        self.passed_bytes = 0
        self.dropped_packets = 0
        self._start_s, self._offset_ms = start_s, round(offset_s * 1000)
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0
        self._paid = 0.0
        self._done_ms = 0
        self._way: deque[tuple[float, bytes]] = deque()
        self._random = random.Random(seed)

    @property
    def queued_bytes(self) -> int:
        """What waits."""
        return self._queued_bytes

    def put(self, packet: bytes, now_s: float) -> None:
        """Take a packet, or drop it: by chance, or because the queue is full."""
        full = self.trace is not None and self._queued_bytes + len(packet) > self.queue_bytes
        if full or (self.loss and self._random.random() < self.loss):
            self.dropped_packets += 1
        elif self.trace is None or now_s < self._start_s:
            self._way.append((now_s + self.delay_s, packet))
        else:
            self._queue.append((now_s, packet))
            self._queued_bytes += len(packet)

    def take(self, now_s: float) -> list[bytes]:
        """The packets that have arrived by now."""
        self._drain(now_s)
        arrived = []
        while self._way and self._way[0][0] <= now_s:
            arrived.append(self._way.popleft()[1])
            self.passed_bytes += len(arrived[-1])
        return arrived

    def next_s(self, now_s: float) -> float | None:
        """When to look again; None if nothing is under way."""
        if self._queue:
            return now_s + 0.001
        return self._way[0][0] if self._way else None

    def _drain(self, now_s: float) -> None:
        if self.trace is None:
            return
        until_ms = max(0, int((now_s - self._start_s) * 1000))
        if not self._queue:  # nothing can have left since, whatever the trace offered
            self._done_ms = max(self._done_ms, until_ms)
            return
        per_ms = self.trace.bytes_per_ms
        for ms in range(self._done_ms, until_ms):
            at_s = self._start_s + (ms + 1) / 1000
            credit = float(per_ms[(self._offset_ms + ms) % len(per_ms)]) * self.scale
            while credit > 0 and self._queue and self._queue[0][0] <= at_s:
                size_bytes = len(self._queue[0][1])
                spent = min(credit, size_bytes - self._paid)
                credit -= spent
                self._paid += spent
                if self._paid >= size_bytes - 1e-6:
                    self._paid = 0.0
                    self._queued_bytes -= size_bytes
                    self._way.append((at_s + self.delay_s, self._queue.popleft()[1]))
        self._done_ms = max(self._done_ms, until_ms)
