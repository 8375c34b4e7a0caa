"""Queue of one direction of an emulated link: FIFO, drained as a trace says, then a propagation delay.

Time is an argument, so the same class serves the real-time emulator and the model.
"""

from __future__ import annotations

import random
from collections import deque

from edgesem.trace import Trace


class LinkQueue:
    """Packets on their way across one direction of a link.

    Each millisecond's bytes of the trace are spent on the packets that were queued by then. A packet leaves the queue
    once all of its bytes are paid for, and arrives `delay_s` later. What a millisecond does not use is lost, as an
    unused slot of a mobile network is; a packet that is partly paid for keeps what it has. Without a trace, and before
    `start_s`, packets only take the delay. All times are seconds of one clock. Not thread-safe.
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
        """Factor on the whole trace; may be changed at any time."""
        self.dropped_packets = 0
        self._start_s, self._offset_ms = start_s, round(offset_s * 1000)
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0
        self._paid_bytes = 0.0
        self._drained_ms = 0
        self._propagating: deque[tuple[float, bytes]] = deque()
        self._random = random.Random(seed)

    def put(self, packet: bytes, now_s: float) -> None:
        """Take a packet, or drop it: by chance, or because the queue is full."""
        full = self.trace is not None and self._queued_bytes + len(packet) > self.queue_bytes
        if full or (self.loss and self._random.random() < self.loss):
            self.dropped_packets += 1
        elif self.trace is None or now_s < self._start_s:
            self._propagating.append((now_s + self.delay_s, packet))
        else:
            self._queue.append((now_s, packet))
            self._queued_bytes += len(packet)

    def take(self, now_s: float) -> list[bytes]:
        """The packets that have arrived by now."""
        self._drain(now_s)
        arrived = []
        while self._propagating and self._propagating[0][0] <= now_s:
            arrived.append(self._propagating.popleft()[1])
        return arrived

    def next_s(self, now_s: float) -> float | None:
        """When to call `take` again; None if nothing is under way."""
        if self._queue:
            return now_s + 0.001
        return self._propagating[0][0] if self._propagating else None

    def _drain(self, now_s: float) -> None:
        if self.trace is None:
            return
        until_ms = max(0, int((now_s - self._start_s) * 1000))
        if not self._queue:  # nothing can have left since, whatever the trace offered
            self._drained_ms = max(self._drained_ms, until_ms)
            return
        per_ms = self.trace.bytes_per_ms
        for ms in range(self._drained_ms, until_ms):
            at_s = self._start_s + (ms + 1) / 1000
            credit = float(per_ms[(self._offset_ms + ms) % len(per_ms)]) * self.scale
            while credit > 0 and self._queue and self._queue[0][0] <= at_s:
                size_bytes = len(self._queue[0][1])
                spent = min(credit, size_bytes - self._paid_bytes)
                credit -= spent
                self._paid_bytes += spent
                if self._paid_bytes >= size_bytes - 1e-6:
                    self._paid_bytes = 0.0
                    self._queued_bytes -= size_bytes
                    self._propagating.append((at_s + self.delay_s, self._queue.popleft()[1]))
        self._drained_ms = max(self._drained_ms, until_ms)
