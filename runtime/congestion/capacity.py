"""Capacity estimate of a link: its rate, measured from acknowledged bytes."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

_SHORTEST_S = 0.002
_LEAST_BYTES = 2500  # a rate from less than two full TCP segments is a matter of luck
_SLOWEST = 4.0
_UNKNOWN_SWING, _SWING_SHARE = 0.3, 0.05


@dataclass
class Capacity:
    """Estimator of a link's rate: acknowledged bytes over the time in which the link was busy with them.

    A message occupies the link from when its first byte could have arrived (sent, plus the smallest round trip) or
    from when the message before it was acknowledged, whichever is later, until its own acknowledgement. Time in which
    nothing was sent counts for nothing, so a sender that sends little still learns the true rate; the kernel's
    `tcpi_delivery_rate` does not (it said 604 of 1000 kbit/s for a stream that used 43 % of the link).

    Two windows are kept. A link of a mobile network doubles and halves within 100 ms: the short one sees that, and
    the long one says what it is likely to come back to.
    """

    min_rtt_s: float = 0.0
    """Round trip of a message too small to take time on the link."""
    short_s: float = 0.15
    long_s: float = 1.0
    outage_s: float = 0.1
    """A wait longer than this, for a message that should have needed a quarter of it, was the link being away: its
    rate while it is there stays what it was. Else the first seconds after each outage would go unused."""
    swing: float = _UNKNOWN_SWING
    """How unsteady the link is: |ln(rate in the short window / in the long one)|, over 20 messages or so."""
    _samples: deque[tuple[float, int, float]] = field(default_factory=deque, repr=False)
    _last_ack_s: float = field(default=float("-inf"), repr=False)
    _rates: tuple[float, float] | None = field(default=None, repr=False)

    def acked(self, *, size_bytes: int, sent_s: float, now_s: float) -> None:
        """Take one acknowledged message. Raises ValueError if it was acknowledged before it was sent."""
        if now_s < sent_s:
            raise ValueError(f"acknowledged {sent_s - now_s:.3f} s before it was sent: a clock went backwards")
        self.min_rtt_s = min(self.min_rtt_s, now_s - sent_s)
        # An interval may be nothing: two acknowledgements that came together share the time of the first.
        busy_s = max(0.0, now_s - max(sent_s + self.min_rtt_s, self._last_ack_s))
        if self._rates is not None:
            busy_s = min(busy_s, max(self.outage_s, _SLOWEST * size_bytes * 8 / max(self._rates)))
        self._last_ack_s = max(self._last_ack_s, now_s)
        self._samples.append((now_s, size_bytes, busy_s))
        self._rates = short_bps, long_bps = self._measure(now_s, self.short_s), self._measure(now_s, self.long_s)
        self.swing += _SWING_SHARE * (abs(math.log(short_bps / long_bps)) - self.swing)
        while len(self._samples) > 4 and self._samples[0][0] < now_s - self.long_s:
            self._samples.popleft()

    @property
    def rate_bps(self) -> float | None:
        """Bits per second that the link has shown lately and may show again, or None before the first acknowledgement:
        the higher of both windows. What is sent too much costs a layer, what is sent too little is gone for good."""
        return None if self._rates is None else max(self._rates)

    @property
    def last_ack_s(self) -> float:
        """When the latest message was acknowledged; minus infinity before the first."""
        return self._last_ack_s

    def _measure(self, now_s: float, window_s: float) -> float:
        """Bits per second over the samples of one window, and at least over `_LEAST_BYTES`."""
        size_bytes, busy_s = 0, 0.0
        for at_s, size, busy in reversed(self._samples):
            if at_s < now_s - window_s and size_bytes >= _LEAST_BYTES:
                break
            size_bytes += size
            busy_s += busy
        return size_bytes * 8 / max(busy_s, _SHORTEST_S)
