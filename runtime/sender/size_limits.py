"""Limits of the sizes of frames and messages, by what the link bears and by what the broker takes."""

from __future__ import annotations

from collections.abc import Callable

from runtime.congestion.interface import LinkControl

_LONGEST_FRAME_S = 30.0
"""An ordinary frame takes no longer on the link: then each of its layers takes less than the keep-alive of MQTT."""
_PIECE_S = 4.0
"""Nor does a message of a promised one: about a quarter of the keep-alive, for rates are guesses."""
_LEAST_PIECE_BYTES = 512
_PROBE_BYTES = 100
"""Of the messages that round trips are measured with: a link bears at least so many in one."""
_SPARE_BYTES = 16


class SizeLimits:
    """Limits on one link. `broker_bytes()` is the largest message that the broker takes, None if it has not said. Not
    thread-safe: the publisher's lock guards it."""

    def __init__(self, control: LinkControl, broker_bytes: Callable[[], int | None]) -> None:
        self._control, self._broker_bytes = control, broker_bytes

    @property
    def rate_bps(self) -> float:
        """What the link bears; 0 if that is not known."""
        return self._control.state().get("capacity_bps") or 0.0

    def most_bytes(self, budget_bytes: int) -> int:
        """A frame's budget, or less, if the broker takes no message as large."""
        broker_bytes = self._broker_bytes()
        return budget_bytes if broker_bytes is None else max(1, min(budget_bytes, broker_bytes))

    def frame_bytes(self, now_s: float, ready_in_s: float) -> int | None:
        """What the messages of the next ordinary frame may have, or None: not now."""
        budget_bytes = self._control.budget_bytes(now_s, ready_in_s=ready_in_s)
        if budget_bytes is None:
            return None
        if self.rate_bps:
            borne_bytes = max(self._control.min_bytes, int(_LONGEST_FRAME_S * self.rate_bps / 8))
            budget_bytes = min(budget_bytes, borne_bytes)
        return self.most_bytes(budget_bytes)

    def promised_message_bytes(self) -> float:
        """The most that a message of a promised frame may have; what is larger goes in pieces."""
        rate_bps, broker_bytes = self.rate_bps, self._broker_bytes()
        if not rate_bps:  # not measured yet
            rtt_s = self._control.state().get("rtt_s")
            rate_bps = 8 * _PROBE_BYTES / rtt_s if rtt_s else float("inf")
        borne_bytes = max(_LEAST_PIECE_BYTES, _PIECE_S * rate_bps / 8)
        return borne_bytes if broker_bytes is None else min(borne_bytes, broker_bytes - _SPARE_BYTES)
