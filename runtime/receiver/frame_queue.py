"""Queue of one stream's frames that wait for a decoder: the newest ordinary ones, and promised ones, in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from edgesem.packet.packet import MAX_LAYERS, Packet
from runtime.protocol.clock import elapsed_s
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.sender_start import SenderStart
from runtime.receiver.skipped_picture import SkippedPicture

MAX_PROMISED = 64
"""Promised frames of a stream that wait for a decoder in memory; more wait on the disk."""
FULLER_S = 1.0
"""A base layer alone does not replace a picture with more layers that was captured less than this before it."""


class FrameQueue:
    """Queue of frames. Not thread-safe: use it under `Streams.lock`.

    At most `backlog` ordinary frames wait; one more drops the oldest. Beside a promised frame that waits, another may
    wait only if `may_wait` answers True. A base layer alone, all that came of a frame of several of the wanted
    `layers`, is left out within a second after a frame of the same sender with more layers.
    """

    def __init__(
        self,
        counters: ReceiverCounters,
        *,
        layers: int = MAX_LAYERS,
        backlog: int = 2,
        may_wait: Callable[[], bool] = lambda: True,
    ) -> None:
        self.promised_bytes = 0
        """Bytes of the promised frames."""
        self._counters, self._layers, self._backlog, self._may_wait = counters, layers, backlog, may_wait
        self._ordinary: deque[tuple[SenderStart, Packet]] = deque()
        self._promised: deque[Packet] = deque()
        self._promised_next = False
        self._skipped: SkippedPicture | None = None

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._promised) + (self._skipped is not None)

    @property
    def promised(self) -> int:
        """Number of promised frames."""
        return len(self._promised)

    @property
    def has_promised_room(self) -> bool:
        """Whether another promised frame may wait."""
        return not self._promised or (len(self._promised) < MAX_PROMISED and self._may_wait())

    def add(self, start: SenderStart, packets: list[Packet]) -> None:
        """Add ordinary frames of a start, whole or as far as they came; one that waits is replaced by more of it."""
        for packet in packets:
            if len(packet.chunks) > 1:
                start.fuller_ms = packet.time_ms
            elif self._is_poorer(packet, start.fuller_ms):
                self._counters.base_alone += 1
                continue
            if self._ordinary and _name(*self._ordinary[-1]) == _name(start, packet):
                self._ordinary.pop()  # an early look at it, which was not even taken
            elif len(self._ordinary) >= self._backlog:
                self._ordinary.popleft()
                self._counters.dropped += 1
            self._ordinary.append((start, packet))

    def add_skipped(self, skipped: SkippedPicture) -> None:
        """Add the picture of a frame that was taken before, in place of another such: after the ordinary frames."""
        self._skipped = skipped

    def add_promised(self, packet: Packet) -> None:
        """Add a promised frame, whether there is room or not."""
        self._promised.append(packet)
        self.promised_bytes += packet.size_bytes

    def push_promised(self, packet: Packet) -> None:
        """Add a promised frame that waits nowhere else; without room the oldest gives way."""
        if not self.has_promised_room:
            self._pop_promised()
            self._counters.dropped += 1
        self.add_promised(packet)

    def pop(self) -> Packet | SkippedPicture | None:
        """Take out what to decode next, promised frames and the others in turn; None if nothing waits."""
        others = bool(self._ordinary) or self._skipped is not None
        if self._promised and (self._promised_next or not others):
            self._promised_next = False
            return self._pop_promised()
        self._promised_next = True
        if self._ordinary:
            return self._ordinary.popleft()[1]
        skipped, self._skipped = self._skipped, None
        return skipped

    def _pop_promised(self) -> Packet:
        packet = self._promised.popleft()
        self.promised_bytes -= packet.size_bytes
        return packet

    def _is_poorer(self, packet: Packet, fuller_ms: int | None) -> bool:
        """Whether a base layer alone comes so soon after a fuller picture that this one is worth more."""
        if fuller_ms is None or min(packet.total_layers, self._layers) == 1:
            return False
        return 0 <= elapsed_s(fuller_ms, packet.time_ms) < FULLER_S


def _name(start: SenderStart, packet: Packet) -> tuple[int, int, int]:
    return id(start), packet.epoch, packet.frame
