"""History of one stream: samples of the last minutes, for the charts of the live page."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from runtime.protocol.state import State

_MAX_SAMPLES = 900
_LONGEST_S = 300.0


class History:
    """Samples of the last five minutes, at most 900, each a Unix time in ms and values by name.

    Names are `capacity_bps` and `budget_bytes`, which the sender reports, and `size_bytes`, `delay_s` and `decode_s`,
    which are measured here. One thread adds; others may read meanwhile.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MAX_SAMPLES)

    def add(self, **values: float | None) -> None:
        """Add a sample at the present time; a value of None is left out."""
        now_ms = time.time_ns() // 1_000_000
        known = {name: round(value, 4) for name, value in values.items() if value is not None}
        if self._samples and now_ms <= self._samples[-1][0]:
            now_ms = self._samples[-1][0] + 1  # each sample has a time of its own, or `since` would leave one out
        self._samples.append((now_ms, known))

    def add_state(self, state: State) -> None:
        """Add what a sender reports of its link."""
        self.add(capacity_bps=state.capacity_bps, budget_bytes=state.budget_bytes or None)

    def since(self, time_ms: int) -> list[dict[str, Any]]:
        """The samples after a time, oldest first: `{"time_ms": ..., name: value, ...}`."""
        oldest_ms = max(time_ms, int((time.time() - _LONGEST_S) * 1000))
        return [{"time_ms": at_ms, **values} for at_ms, values in list(self._samples) if at_ms > oldest_ms]
