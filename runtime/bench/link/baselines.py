"""Rate controls that edgesem's is compared with: the same sender, with another rule of how much to send and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgesem.trace import Trace
from runtime.congestion.control import Control
from runtime.congestion.interface import LinkControl
from runtime.settings import MAX_FRAME_BYTES

SENDERS = ("edgesem", "fixed", "fixed_newest", "aimd", "whole", "oracle")
WITHOUT_LAYERS = ("whole",)
"""Senders whose frames count only once they are whole."""
_FIXED_SHARE = 0.5
_SEGMENT_BYTES, _HEAD_BYTES = 1448, 52  # of an IP packet: what TCP carries, and its heads
_MESSAGES = 4  # that a frame is sent in, at most


class Fixed:
    """Control with frames of one size, each sent as soon as it is taken: what a camera with a set bitrate does."""

    def __init__(self, *, interval_s: float, size_bytes: int, min_bytes: int = 300) -> None:
        self.interval_s, self.size_bytes, self.min_bytes = interval_s, size_bytes, min_bytes
        self.in_flight_bytes = 0

    def connected(self, now_s: float, rtt_s: float | None) -> None:
        """As of `LinkControl`."""
        self.in_flight_bytes = 0

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """The same size for each frame."""
        return max(self.size_bytes, self.min_bytes)

    def room(self, now_s: float, *, size_bytes: int, base: bool) -> bool:
        """True: a message is sent at once."""
        return True

    def sent(self, now_s: float, *, size_bytes: int, base: bool = False) -> None:
        """As of `LinkControl`."""
        self.in_flight_bytes += size_bytes

    def acked(self, now_s: float, *, size_bytes: int, sent_s: float) -> None:
        """As of `LinkControl`."""
        self.in_flight_bytes = max(0, self.in_flight_bytes - size_bytes)

    def progressed(self) -> bool:
        """As of `LinkControl`; nothing is asked of the kernel."""
        return False

    def wants_rtt(self, now_s: float) -> bool:
        """As of `LinkControl`; no round trip is measured."""
        return False

    def rtt_measured(self, now_s: float, rtt_s: float) -> None:
        """As of `LinkControl`."""

    def lost(self, now_s: float, *, size_bytes: int) -> None:
        """As of `LinkControl`."""
        self.in_flight_bytes = max(0, self.in_flight_bytes - size_bytes)

    def state(self) -> dict[str, Any]:
        """As of `LinkControl`; nothing is measured, so there is no rate and no round trip."""
        return {"capacity_bps": None, "rtt_s": None, "window_bytes": 0, "in_flight_bytes": self.in_flight_bytes}


class FixedNewest(Fixed):
    """Control with frames of one size, of which none is begun while more than one is in flight."""

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """The same size for each frame, or None: not now."""
        size_bytes = max(self.size_bytes, self.min_bytes)
        return None if self.in_flight_bytes > 1.1 * size_bytes else size_bytes


class Aimd(Fixed):
    """Additive increase, multiplicative decrease: frames grow while the queue is short, and halve when it is long.

    The pipeline asks for a budget twice a frame, so the size grows by 600 bytes a frame.
    """

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """More, or half; None while more than eight frames are in flight."""
        if self.in_flight_bytes > 3 * self.size_bytes:
            self.size_bytes = max(self.min_bytes, self.size_bytes // 2)
        else:
            self.size_bytes = min(MAX_FRAME_BYTES, self.size_bytes + 300)
        return None if self.in_flight_bytes > 8 * self.size_bytes else max(self.size_bytes, self.min_bytes)


class Whole(Control):
    """edgesem's control without layers: a frame is begun or not, and nothing of it is dropped later."""

    def room(self, now_s: float, *, size_bytes: int, base: bool) -> bool:
        """True: a frame that has been begun is sent to its end."""
        return True


class Oracle(Fixed):
    """Control that knows the trace: a frame gets what drains until the next one, and none that would wait is sent."""

    def __init__(
        self, *, interval_s: float, trace: Trace, start_s: float, offset_s: float, min_bytes: int = 300
    ) -> None:
        super().__init__(interval_s=interval_s, size_bytes=0, min_bytes=min_bytes)
        self._trace, self._begin_s = trace, offset_s - start_s
        self._queued_bytes = 0.0
        self._at_s: float | None = None

    def budget_bytes(self, now_s: float, *, ready_in_s: float = 0.0) -> int | None:
        """What the trace will carry until the next frame, less what is still queued."""
        self._drain(now_s)
        soon_bytes = self._between(now_s, now_s + self.interval_s) - self._queued_bytes
        soon_bytes *= _SEGMENT_BYTES / (_SEGMENT_BYTES + _HEAD_BYTES)
        soon_bytes -= 2 * _MESSAGES * _HEAD_BYTES
        return int(min(MAX_FRAME_BYTES, soon_bytes)) if soon_bytes >= self.min_bytes else None

    def sent(self, now_s: float, *, size_bytes: int, base: bool = False) -> None:
        """It stands in the link's queue, with all that TCP adds: heads, and an answer to the broker's confirmation."""
        self._drain(now_s)
        segments = -(-size_bytes // _SEGMENT_BYTES)
        self._queued_bytes += size_bytes + (segments + 1) * _HEAD_BYTES
        super().sent(now_s, size_bytes=size_bytes, base=base)

    def _drain(self, now_s: float) -> None:
        if self._at_s is not None:
            self._queued_bytes = max(0.0, self._queued_bytes - self._between(self._at_s, now_s))
        self._at_s = now_s

    def _between(self, from_s: float, to_s: float) -> float:
        return self._trace.between_bytes(from_s + self._begin_s, to_s + self._begin_s)


def make_control(
    name: str,
    *,
    interval_s: float,
    trace: Trace,
    start_s: float,
    offset_s: float,
    unacked_bytes: Callable[[], int | None] = lambda: None,
    refers: bool = False,
) -> LinkControl:
    """The control of a sender in `SENDERS`; the fixed ones know the trace's mean, the oracle all of it.

    refers: whether its frames refer to earlier ones.
    """
    size_bytes = int(_FIXED_SHARE * trace.mean_bps / 8 * interval_s)
    if name == "edgesem":
        return Control(interval_s=interval_s, unacked_bytes=unacked_bytes, refers=refers)
    if name == "whole":
        # What has been begun is in the way of the next frame, so it is not to be more than drains by then.
        return Whole(interval_s=interval_s, aim_s=0.0, fill_share=1.0, unacked_bytes=unacked_bytes)
    if name == "oracle":
        return Oracle(interval_s=interval_s, trace=trace, start_s=start_s, offset_s=offset_s)
    return {"fixed": Fixed, "fixed_newest": FixedNewest, "aimd": Aimd}[name](
        interval_s=interval_s, size_bytes=size_bytes
    )
