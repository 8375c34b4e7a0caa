"""How many bytes the next frame may have, and how many may be under way."""

from __future__ import annotations

from dataclasses import dataclass

_SHARE = 0.85  # the rest is for acknowledgements, TCP and an estimate that is a little high
_QUEUE_S = 0.4
_SMALLEST_WINDOW_BYTES = 2000
_LARGEST_BUDGET_BYTES = 30_000


@dataclass(frozen=True)
class Control:
    """Turns a measured rate into a budget for a stream of one frame each `interval_s`."""

    interval_s: float
    first_budget_bytes: int = 1500
    """For the frame that must be sent before anything is known about the link: about 0.2 s at 64 kbit/s."""

    def budget_bytes(self, *, rate_bps: float | None, backlog_bytes: int = 0, ready_in_s: float = 0.0) -> int:
        """What drains in one interval after the `backlog_bytes` that wait or are under way now; can be 0.

        The packet will be ready in `ready_in_s`; what drains until then is not in its way.
        """
        if rate_bps is None:
            return self.first_budget_bytes
        left_bytes = max(0.0, backlog_bytes - rate_bps / 8 * ready_in_s)
        drains_bytes = rate_bps / 8 * self.interval_s * _SHARE
        return int(max(0.0, min(_LARGEST_BUDGET_BYTES, drains_bytes - left_bytes)))

    def window_bytes(self, *, rate_bps: float | None) -> int:
        """How many unacknowledged bytes keep the link busy without a queue longer than a fraction of a second."""
        if rate_bps is None:
            return _SMALLEST_WINDOW_BYTES
        return max(_SMALLEST_WINDOW_BYTES, int(rate_bps / 8 * _QUEUE_S))
