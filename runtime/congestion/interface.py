"""What decides how much may be sent when: `runtime.congestion.control` is one, and others can stand in its place."""

from __future__ import annotations

from typing import Any, Protocol


class LinkControl(Protocol):
    """What decides how much may be sent when. All times are those of `time.monotonic`, and sizes those on the wire."""

    interval_s: float
    min_bytes: int

    def connected(self, now_s: float, rtt_s: float | None) -> None:
        """A new connection stands: nothing is under way."""

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """What all messages of the next frame may have together, or None: not now."""

    def room(self, now_s: float, *, size_bytes: int, base: bool) -> bool:
        """Whether this message may be handed to the socket now."""

    def sent(self, now_s: float, *, size_bytes: int, base: bool = False) -> None:
        """A message is about to be published."""

    def acked(self, now_s: float, *, size_bytes: int, sent_s: float) -> None:
        """It has come through."""

    def lost(self, now_s: float, *, size_bytes: int) -> None:
        """It was given up."""

    def state(self) -> dict[str, Any]:
        """capacity_bps, rtt_s, window_bytes ..."""
