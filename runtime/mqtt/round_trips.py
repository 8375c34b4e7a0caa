"""Round trips of one session: how long the broker's answers to small messages took."""

from __future__ import annotations

import time

_PROBES, _PROBED_S = 4, 0.25


class RoundTrips:
    """Measurement of round trips, one at a time: `asked` as a message leaves, `answered` as its answer comes."""

    def __init__(self) -> None:
        self.shortest_s: float | None = None
        """None before the first answer."""
        self._asked_s = 0.0
        self._probes = 0

    def asked(self) -> None:
        """A message that the broker will answer leaves now."""
        self._asked_s = time.monotonic()

    def answered(self) -> float:
        """Its answer is here; returns the seconds that it took."""
        rtt_s = time.monotonic() - self._asked_s
        self.shortest_s = rtt_s if self.shortest_s is None else min(self.shortest_s, rtt_s)
        return rtt_s

    def probe(self) -> bool:
        """Whether to measure one more: some, where they are short, because a busy machine makes single ones long."""
        if self._probes >= _PROBES or (self.shortest_s or 0.0) > _PROBED_S:
            return False
        self._probes += 1
        return True
