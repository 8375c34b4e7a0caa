"""Limits of ordinary frames that their owner sets, whatever the link bears: bytes of each, and bits a second."""

from __future__ import annotations

from runtime.protocol.state import USUAL_FRAME_BYTES

_LEAST_BYTES = 1500
"""By a limit of the rate a frame has no less: rather fewer frames than frames of which nothing is to be seen."""


class FrameLimits:
    """Limits of a stream's ordinary frames; promised ones are not held up, and do not count.

    A frame that was sent takes its time at `max_rate_bps`; before that has passed, no other begins. So the rate is kept
    over each time that is longer than a frame's. Not thread-safe: the publisher's lock guards it.
    """

    def __init__(self, max_bytes: int = USUAL_FRAME_BYTES, max_rate_bps: int = 0) -> None:
        self.max_bytes = max_bytes
        """The most that a frame's messages may have, with all that MQTT adds."""
        self.max_rate_bps = max_rate_bps
        """The most bits a second of them; 0: as many as the link bears."""
        self._first = max_bytes, max_rate_bps
        self._owed_bits, self._owed_s = 0.0, 0.0
        """What was sent and has not had its time yet, and when that was so."""

    def set(self, max_bytes: int | None, max_rate_bps: int | None) -> None:
        """Change what is not None; 0: as it was at the start."""
        if max_bytes is not None:
            self.max_bytes = max_bytes or self._first[0]
        if max_rate_bps is not None:
            self.max_rate_bps = max_rate_bps or self._first[1]

    def frame_bytes(self, now_s: float, interval_s: float) -> int | None:
        """What a frame may have now, where one comes each `interval_s` seconds; None: not now."""
        if not self.max_rate_bps:
            return self.max_bytes
        if self._left_bits(now_s) > 0:
            return None
        return min(self.max_bytes, max(_LEAST_BYTES, int(self.max_rate_bps / 8 * interval_s)))

    def sent(self, now_s: float, size_bytes: int) -> None:
        """A message of an ordinary frame goes."""
        self._owed_bits, self._owed_s = self._left_bits(now_s) + 8 * size_bytes, now_s

    def _left_bits(self, now_s: float) -> float:
        """What has not had its time yet: at the present limit, so that another one holds at once."""
        if not self.max_rate_bps:
            return 0.0
        return max(0.0, self._owed_bits - self.max_rate_bps * (now_s - self._owed_s))
