"""The rate that the link really bears, measured from acknowledged bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_KEEP_SAMPLES = 4  # a slow stream keeps these even when they are older than the window
_SHORTEST_S = 1e-4


@dataclass
class Capacity:
    """Bytes that arrived over the time in which the link was busy with them, within the last `window_s`.

    A message occupies the link from when its first byte could have arrived (sent, plus the smallest round trip) or
    from when the message before it was acknowledged, whichever is later, until its own acknowledgement. Time in which
    nothing was sent counts for nothing, so a sender that sends little still learns the true rate.
    """

    min_rtt_s: float = 0.0
    """Round trip of a message too small to take time on the link."""
    window_s: float = 4.0
    _samples: deque[tuple[float, int, float]] = field(default_factory=deque, repr=False)
    _last_ack_s: float = field(default=float("-inf"), repr=False)

    def acked(self, *, size_bytes: int, sent_s: float, now_s: float) -> None:
        """Take one acknowledged message. Raises ValueError if it was acknowledged before it was sent."""
        if now_s < sent_s:
            raise ValueError(f"acknowledged {sent_s - now_s:.3f} s before it was sent: a clock went backwards")
        self.min_rtt_s = min(self.min_rtt_s, now_s - sent_s)
        # An interval may be nothing: two acknowledgements that came together share the time of the first.
        busy_s = max(0.0, now_s - max(sent_s + self.min_rtt_s, self._last_ack_s))
        self._last_ack_s = max(self._last_ack_s, now_s)
        self._samples.append((now_s, size_bytes, busy_s))
        while len(self._samples) > _KEEP_SAMPLES and self._samples[0][0] < now_s - self.window_s:
            self._samples.popleft()

    @property
    def rate_bps(self) -> float | None:
        """Bits per second, or None before the first acknowledgement."""
        if not self._samples:
            return None
        size_bytes = sum(size for _, size, _ in self._samples)
        busy_s = sum(busy for _, _, busy in self._samples)
        return size_bytes * 8 / max(busy_s, _SHORTEST_S)
