"""Frame order of an unsealed stream: which packets a stranger cannot have meant to silence it with.

Anybody may publish on an unsealed stream. One packet with a far number, or of another epoch and a far time, would make
all frames of the real sender look old. So a far jump needs a second frame, and frames that go on behind a number that
nobody continues are believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edgesem.packet.packet import Packet

_JUMP = 65536
_FRAMES_A_SECOND = 100
"""A sender that was not heard for some time may be so many frames further for each second."""
_BEHIND = 3
"""So many frames in order are the sender's, if nobody went on from the newest one."""
_SILENT_S = 1.0


class FrameOrder:
    """Order of the frames of one stream. Not thread-safe. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._newest: tuple[int, int] | None = None
        self._moved_s = 0.0
        """When a frame went on from the newest one."""
        self._suspect: tuple[int, int] | None = None
        """The frame that was too far ahead."""
        self._behind: tuple[int, int] | None = None
        """The last of the frames in a row that are behind the newest one."""
        self._run = 0

    def is_plausible(self, packet: Packet) -> bool:
        """Whether an ordinary packet may be the next, or an earlier one; False: it is too far ahead to be believed."""
        if self._newest is None or packet.epoch != self._newest[0]:
            return True
        allowed = _JUMP + _FRAMES_A_SECOND * (self._clock() - self._moved_s)
        if packet.frame - self._newest[1] <= allowed:
            return True
        if self._suspect is not None and 0 < packet.frame - self._suspect[1] <= _JUMP:
            return True
        self._suspect = packet.epoch, packet.frame
        return False

    def has_gone_back(self, packet: Packet, *, later: bool) -> bool:
        """Note a plausible packet; whether the sender must be believed to have gone back to it.

        `later`: the packet is of the frame under way or a later one.
        """
        now_s, at = self._clock(), (packet.epoch, packet.frame)
        if later:
            if at != self._newest:
                self._newest, self._moved_s = at, now_s
                self._suspect = self._behind = None
                self._run = 0
            return False
        if self._behind is None or self._behind[0] != at[0] or at[1] <= self._behind[1]:
            self._run = self._run if at == self._behind else 1
        else:
            self._run += 1
        self._behind = at
        if self._run < _BEHIND or now_s - self._moved_s < _SILENT_S:
            return False
        self._newest, self._moved_s, self._run, self._behind = at, now_s, 0, None
        return True
