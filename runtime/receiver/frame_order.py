"""Frame order of an unsealed stream: tells a gap or a restart of its sender from false frame numbers of a stranger.

Anybody may publish on an unsealed stream. One packet with a far higher frame number would make all frames of the real
sender look old, and so would one of another epoch and a much later time. So a far jump counts only when a second frame
confirms it, and three frames in order behind the newest one count when nothing has followed that for a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edgesem.packet.packet import Packet

_JUMP = 65536
_FRAMES_A_SECOND = 100
"""A sender that was not heard for some time may be so many frames further for each second."""
_IN_A_ROW = 3
_SILENT_S = 1.0


class FramesBehind:
    """Frames that come behind the newest one: whether they must be the sender's. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.moved_s = 0.0
        """When a frame went on from the newest one."""
        self._last: tuple[int, int] | None = None
        self._in_a_row = 0

    def moved(self) -> None:
        """A frame has gone on from the newest one, or has become it."""
        self.moved_s, self._last, self._in_a_row = self._clock(), None, 0

    def are_true(self, packet: Packet) -> bool:
        """Note a packet behind the newest frame; whether it is the third in order, and nothing came from there."""
        at = packet.epoch, packet.frame
        if at != self._last:
            goes_on = self._last is not None and self._last[0] == at[0] and self._last[1] < at[1]
            self._last, self._in_a_row = at, self._in_a_row + 1 if goes_on else 1
        return self._in_a_row >= _IN_A_ROW and self._clock() - self.moved_s >= _SILENT_S


class FrameOrder:
    """Order of the frames of one start. Not thread-safe. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: int | None = None
        self._behind = FramesBehind(clock)
        self._suspect: int | None = None
        """The frame that was too far ahead."""

    def is_plausible(self, packet: Packet) -> bool:
        """Whether an ordinary packet may be the next, or an earlier one; False: it is too far ahead to be believed."""
        if self._newest is None:
            return True
        allowed = _JUMP + _FRAMES_A_SECOND * (self._clock() - self._behind.moved_s)
        if packet.frame - self._newest <= allowed:
            return True
        if self._suspect is not None and 0 < packet.frame - self._suspect <= _JUMP:
            return True
        self._suspect = packet.frame
        return False

    def has_gone_back(self, packet: Packet, *, later: bool) -> bool:
        """Note a plausible packet; whether the sender must be believed to have gone back to it.

        `later`: the packet is of the frame under way or a later one.
        """
        if later:
            if packet.frame != self._newest:
                self._newest, self._suspect = packet.frame, None
                self._behind.moved()
            return False
        if not self._behind.are_true(packet):
            return False
        self._newest = packet.frame
        self._behind.moved()
        return True
