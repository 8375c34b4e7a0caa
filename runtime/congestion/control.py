"""Congestion control of a sender: how many bytes the next frame may have, and when its layers may leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime.congestion.capacity import Capacity

_SMALLEST_WINDOW_BYTES = 3000
_FIRST_BUDGET_BYTES = 1500  # before anything is known about the link: 0.2 s at 64 kbit/s
_LEAST_SHARE = 0.02
_PROBE_STEP, _MOST_PROBE = 1.4, 3.0
_SHORT_S = 0.05  # less than this on the link, and a message is too small to measure it
_LEAST_INTERVALS = 0.5
_SAME_RTT, _SAME_RTT_S = 1.25, 0.1
_LONGEST_DRAIN_S = 3.0
_ON_THE_WAY_S = 0.01  # from our hands into the socket
_LEAST_AIM_S, _AIM_OF_SWING_S = 0.01, 0.1
_LEAST_FILL_S = 0.2
_PLAIN_BYTES = 600  # below this, quality falls fast with size
_FINE_BYTES = 1500  # above this, it hardly grows
_OFTEN_S, _SELDOM_S = 0.5, 2.0  # intervals between which frames above that come to have their share of the interval


@dataclass
class Control:
    """Keeps a link busy with no more queue than drains by the next frame.

    A byte window with a target for the queueing delay, as in SCReAM (RFC 8298), on messages in place of packets:

    - window = rate x (smallest round trip + `target_s`). SCReAM's default target is 60 ms; ours is larger because of
      the second gate, which SCReAM does not have:
    - a layer other than the base leaves only if all that is in flight drains by the time the next frame is due, and
      `slack_s` later. So the queue is deep just after a frame, when it fills the gaps of a mobile link, and shallow
      when the next base layer wants to pass.
    - a new frame starts only once what is before it drains in `limit_s`, by a cautious estimate (the bytes acknowledged
      in the last `recent_s`), and not while acknowledgements are overdue by `stall_s`: in an outage nothing is added
      to the queue, and the first frame after it is the newest.
    - budget = what drains in the interval, and up to `aim_s` more, less what is queued already. With few frames a
      second (an interval above 0.2 s) that only up to 600 bytes, and beyond what drains in `fill_share` of the interval
      (0.2 s at least): a picture is as old as its bytes took to come, and an outage catches more of the frames that
      take long, while quality grows ever less with size.
    - where frames refer to earlier ones (`refers`), a frame of more than 1500 bytes gets only what drains in `aim_s`:
      what is not sent now makes the next ones finer. Where the next one is far, that counts less: frames more than
      0.5 s apart have a growing part of their share, and all of it from 2 s on.
    - `aim_s` counts the more, the more the rate has swung lately: a queue of that length when a frame begins fills the
      gaps of an unsteady link, and on a steady one, where it would only be late, it is 10 ms. All layers of each frame
      come through before the next: an incomplete frame was coded for layers that it does not have, and is not shown
      until it is clear that they will not come. Never less than `min_bytes`: where even that does not drain in an
      interval, frames are skipped in place of quality. A small frame that finds the link idle raises the rate that all
      of this believes in by 1.4, up to 3 times the measured one: messages too small for the link measure little more
      than how late their confirmations are.

    The constants were searched on a model of a FIFO link driven by six recorded traces (LTE, UMTS, EVDO, HSDPA) and
    then checked on real TCP (docs/results/link.md). All times are `time.monotonic()` seconds given by the caller, and
    sizes those of MQTT messages. Not thread-safe.
    """

    interval_s: float
    min_bytes: int = 300
    max_bytes: int = 30_000
    target_s: float = 0.12
    slack_s: float = 0.1
    limit_s: float = 0.06
    stall_s: float = 0.05
    recent_s: float = 0.12
    aim_s: float = 0.03
    fill_share: float = 0.4
    """1 for a stream that takes its time to be sharp: it has all of the interval."""
    refers: bool = False
    """Whether frames refer to earlier ones, which they make finer. If not, one of more than 1500 bytes has its share of
    the interval, too: what is left out of it never comes."""
    rtt_window_s: float = 10.0
    unacked_bytes: Callable[[], int | None] = lambda: None
    """What the kernel has of ours that the broker's has not acknowledged, if that can be known."""
    capacity: Capacity = field(default_factory=Capacity)
    _in_flight: deque[tuple[float, int]] = field(default_factory=deque, repr=False)
    _in_flight_bytes: int = field(default=0, repr=False)
    _acks: deque[tuple[float, int]] = field(default_factory=deque, repr=False)
    _due_s: float = field(default=float("-inf"), repr=False)
    _probe_gain: float = field(default=1.0, repr=False)
    _rtt_seen_s: float = field(default=float("-inf"), repr=False)
    """When a round trip as short as the shortest known was last seen."""
    _rtt_doubtful: bool = field(default=False, repr=False)
    """Whether something was confirmed since then, and took longer."""
    _drain_s: float | None = field(default=None, repr=False)
    """Since when nothing is begun, so that a round trip can be measured."""
    _asked_free: bool = field(default=False, repr=False)
    _best_bps: float = field(default=0.0, repr=False)
    """The best rate since the path was last measured."""
    _unacked_before: int = field(default=0, repr=False)

    def connected(self, now_s: float, rtt_s: float | None) -> None:
        """A new connection stands: nothing is in flight, and the way may be another. The rate is kept as a guess."""
        self._in_flight.clear()
        self._acks.clear()
        self._in_flight_bytes = 0
        self._due_s = self._rtt_seen_s = now_s
        self._unacked_before, self._best_bps = 0, 0.0
        self._drain_s, self._rtt_doubtful = None, False
        if rtt_s is not None:
            self.capacity.min_rtt_s = rtt_s

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """What all messages of the next frame may have, if it is packed in `ready_in_s`; None: not now."""
        if self._drain_s is not None:
            return None
        rate_bps = self._rate_bps()
        if rate_bps is None:
            return None if self._in_flight else max(self.min_bytes, _FIRST_BUDGET_BYTES)
        queued_bytes = self._queued_bytes(now_s)
        gone_s = self.capacity.min_rtt_s + ready_in_s  # before the new frame is there
        if self._in_flight:
            if self._stalled(now_s):
                return None
            if queued_bytes * 8 / self._cautious_bps(now_s) - gone_s > self.limit_s:
                return None
        aim_s = min(self.aim_s, max(_LEAST_AIM_S, _AIM_OF_SWING_S * self.capacity.swing))
        late_s = max(0.0, queued_bytes * 8 / rate_bps - gone_s)

        def drains_bytes(fill_s: float) -> float:
            return rate_bps / 8 * max(_LEAST_INTERVALS * fill_s, fill_s + aim_s - late_s)

        wanted_bytes = drains_bytes(self.interval_s)
        if self.interval_s > _LEAST_FILL_S and self.fill_share < 1:
            share_bytes = drains_bytes(max(_LEAST_FILL_S, self.fill_share * self.interval_s))
            fine_bytes = share_bytes
            if self.refers:
                seldom = min(1.0, max(0.0, self.interval_s - _OFTEN_S) / (_SELDOM_S - _OFTEN_S))
                spare_bytes = drains_bytes(seldom * self.fill_share * self.interval_s)
                fine_bytes = max(spare_bytes, min(_FINE_BYTES, share_bytes))
            wanted_bytes = max(fine_bytes, min(_PLAIN_BYTES, wanted_bytes))
        return int(max(self.min_bytes, min(self.max_bytes, wanted_bytes)))

    def room(self, now_s: float, *, size_bytes: int, base: bool) -> bool:
        """Whether this message may be handed to the socket now."""
        if not self._in_flight:
            return True
        if self._drain_s is not None:
            return False
        if self._stalled(now_s):
            return False
        window_bytes = self._window_bytes()
        queued_bytes = self._queued_bytes(now_s)
        if base:
            return queued_bytes <= window_bytes
        after_bytes = queued_bytes + size_bytes
        rate_bps = self._rate_bps()
        if after_bytes > window_bytes or rate_bps is None:
            return after_bytes <= window_bytes
        left_s = max(0.0, self._due_s - now_s) + self.slack_s + self.capacity.min_rtt_s
        return after_bytes * 8 <= self._cautious_bps(now_s) * left_s

    def sent(self, now_s: float, *, size_bytes: int, base: bool = False) -> None:
        """A message is about to be published."""
        if base:
            takes_s = size_bytes * 8 / (self.capacity.rate_bps or float("inf"))
            idle = takes_s < _SHORT_S and self._queued_bytes(now_s) == 0
            self._probe_gain = (
                min(_MOST_PROBE, self._probe_gain * _PROBE_STEP) if idle else max(1.0, self._probe_gain / 2)
            )
        self._in_flight.append((now_s, size_bytes))
        self._in_flight_bytes += size_bytes
        if base:  # one that waited leaves the next frame where it was; after one not due, it is an interval away
            due_s = max(self._due_s, now_s - self.interval_s / 2) + self.interval_s
            self._due_s = min(due_s, now_s + self.interval_s)

    def acked(self, now_s: float, *, size_bytes: int, sent_s: float) -> None:
        """A message has come through."""
        self._forget(sent_s, size_bytes)
        self._best_bps = max(self._best_bps, self.capacity.rate_bps or 0.0)
        alone_s = now_s - sent_s - (size_bytes * 8 / self._best_bps if self._best_bps else 0.0)
        self._rtt_doubtful = alone_s > _SAME_RTT * self.capacity.min_rtt_s + _SAME_RTT_S
        if not self._rtt_doubtful:
            self._rtt_seen_s = now_s
        self.capacity.acked(size_bytes=size_bytes, sent_s=sent_s, now_s=now_s)
        self._acks.append((now_s, size_bytes))
        while self._acks[0][0] < now_s - self.recent_s:
            self._acks.popleft()

    def lost(self, now_s: float, *, size_bytes: int) -> None:
        """A message was given up, or never left."""
        sent_s = next((at_s for at_s, size in reversed(self._in_flight) if size == size_bytes), now_s)
        self._forget(sent_s, size_bytes)

    def progressed(self) -> bool:
        """Whether bytes have come through since the last call, as the kernel knows; False where that is not known."""
        unacked_bytes = self.unacked_bytes()
        before, self._unacked_before = self._unacked_before, unacked_bytes or 0
        return unacked_bytes is not None and unacked_bytes < before

    def wants_rtt(self, now_s: float) -> bool:
        """Whether a round trip of a small message is to be measured now.

        The shortest round trip is that of a window of time, as in BBR: a path may become longer within a connection,
        and who believes in the old one takes each message for overdue. If none as short was seen in the last
        `rtt_window_s`, nothing is begun until all that is in flight has come through, and then one is measured. What
        a message takes on the link is taken off by the best rate seen, because the present estimate is wrong then too.
        """
        if self._drain_s is not None:
            if self._in_flight and now_s - self._drain_s < _LONGEST_DRAIN_S:
                return False
            self._drain_s, self._asked_free = None, not self._in_flight
            self._rtt_seen_s = now_s
            return True
        if self._rtt_doubtful and now_s - self._rtt_seen_s >= self.rtt_window_s:
            self._drain_s = now_s
        return False

    def rtt_measured(self, now_s: float, rtt_s: float) -> None:
        """A round trip was measured; it counts if nothing was in flight before it, or it is the shortest known."""
        if self._asked_free or rtt_s < self.capacity.min_rtt_s:
            self.capacity.min_rtt_s = rtt_s
            self._best_bps = self.capacity.rate_bps or 0.0
        self._rtt_seen_s, self._rtt_doubtful = now_s, False

    def state(self) -> dict[str, Any]:
        """capacity_bps and rtt_s (None if unknown), window_bytes, in_flight_bytes."""
        return {
            "capacity_bps": self.capacity.rate_bps,
            "rtt_s": self.capacity.min_rtt_s or None,
            "window_bytes": self._window_bytes(),
            "in_flight_bytes": self._in_flight_bytes,
        }

    def _forget(self, sent_s: float, size_bytes: int) -> None:
        if (sent_s, size_bytes) in self._in_flight:
            self._in_flight.remove((sent_s, size_bytes))
            self._in_flight_bytes -= size_bytes

    def _rate_bps(self) -> float | None:
        """The measured rate, or more: a link that was idle when a frame came may bear more than was asked of it."""
        rate_bps = self.capacity.rate_bps
        return None if rate_bps is None else rate_bps * self._probe_gain

    def _queued_bytes(self, now_s: float) -> int:
        """What is in flight, by the kernel's account where there is one.

        A message counts until its last byte has come and its confirmation has gone back through broker, threads and a
        busy processor; the kernel knows of each segment at once. What was published a moment ago may not be in the
        socket yet.
        """
        unacked_bytes = self.unacked_bytes()
        if unacked_bytes is None:
            return self._in_flight_bytes
        new_bytes = 0
        for sent_s, size_bytes in reversed(self._in_flight):
            if sent_s < now_s - _ON_THE_WAY_S:
                break
            new_bytes += size_bytes
        return min(self._in_flight_bytes, unacked_bytes + new_bytes)

    def _window_bytes(self) -> int:
        rate_bps = self._rate_bps()
        if rate_bps is None:
            return _SMALLEST_WINDOW_BYTES
        # With seconds between frames there is time for a longer queue: the second gate sees that it drains.
        target_s = max(self.target_s, 0.3 * self.interval_s)
        return max(_SMALLEST_WINDOW_BYTES, int(rate_bps / 8 * (self.capacity.min_rtt_s + target_s)))

    def _stalled(self, now_s: float) -> bool:
        """Whether the oldest message in flight should have been acknowledged by now."""
        rate_bps = self.capacity.rate_bps
        if rate_bps is None or not self._in_flight:
            return False
        sent_s, size_bytes = self._in_flight[0]
        takes_s = size_bytes * 8 / rate_bps
        begins_s = max(self.capacity.last_ack_s, sent_s + self.capacity.min_rtt_s)
        return now_s > begins_s + takes_s + max(self.stall_s, takes_s / 2)

    def _cautious_bps(self, now_s: float) -> float:
        """The measured rate, or less if the last moments have shown less."""
        rate_bps = self._rate_bps() or 0.0
        if not self._in_flight or self._in_flight[0][0] + self.capacity.min_rtt_s > now_s - self.recent_s:
            return rate_bps  # the link was not busy all that time
        recent_bytes = sum(size for at_s, size in self._acks if at_s > now_s - self.recent_s)
        return min(rate_bps, max(recent_bytes * 8 / self.recent_s, _LEAST_SHARE * rate_bps))
