"""Watch over a publisher's connection: whether anything still comes through, and when to measure a round trip."""

from __future__ import annotations

from collections.abc import Callable

from runtime.congestion.interface import LinkControl
from runtime.sender.in_flight import InFlight

_ROUND_TRIPS = 4
"""An answer may take so many, where that is longer than the time-out."""

MeasureRtt = Callable[[Callable[[float], None]], None]
"""`measure_rtt(tell)`: measures a round trip of a small message, and calls `tell` with its seconds."""


class LinkWatch:
    """Watch over a connection. Not thread-safe: the publisher's lock guards it.

    `on_stuck(reason)` is called when the broker confirms nothing any more.
    """

    def __init__(
        self,
        *,
        control: LinkControl,
        in_flight: InFlight,
        ack_timeout_s: float,
        on_stuck: Callable[[str], None],
        measure_rtt: MeasureRtt | None,
    ) -> None:
        self._control, self._in_flight, self._ack_timeout_s = control, in_flight, ack_timeout_s
        self._on_stuck, self._measure_rtt = on_stuck, measure_rtt

    def look(self, now_s: float, tell_rtt: Callable[[float], None]) -> Callable[[], None] | None:
        """What is to be done about the connection, without the lock, before anything is published; None: nothing."""
        if self._control.progressed():
            self._in_flight.progress(now_s)
        state = self._control.state()
        patience_s = max(self._ack_timeout_s, _ROUND_TRIPS * (state.get("rtt_s") or 0.0))
        rate_bps = state.get("capacity_bps") or 0.0
        stuck = self._in_flight.stuck(now_s, ack_timeout_s=patience_s, rate_bps=rate_bps)
        if stuck:
            return lambda: self._on_stuck(stuck)
        measure = self._measure_rtt
        if measure is not None and self._control.wants_rtt(now_s):
            return lambda: measure(tell_rtt)
        return None
