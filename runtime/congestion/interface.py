"""Interface of a congestion control; `runtime.congestion.control` is the one that senders use."""

from __future__ import annotations

from typing import Any, Protocol


class LinkControl(Protocol):
    """A congestion control: it decides how much may be sent when.

    Times are monotonic seconds, given by the caller; sizes are those of MQTT messages. Guarded by the publisher's lock.
    """

    interval_s: float
    min_bytes: int

    def connected(self, now_s: float, rtt_s: float | None) -> None:
        """A new connection stands: nothing is in flight."""

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

    def progressed(self) -> bool:
        """Whether bytes have come through since the last call, as the kernel knows; False where that is not known."""

    def wants_rtt(self, now_s: float) -> bool:
        """Whether a round trip of a small message is to be measured now, because what is known is old."""

    def rtt_measured(self, now_s: float, rtt_s: float) -> None:
        """It was measured."""

    def state(self) -> dict[str, Any]:
        """Figures for events and the state message: capacity_bps, rtt_s, window_bytes; more keys are allowed."""
