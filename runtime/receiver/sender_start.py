"""Starts of senders, as the packets of one stream show them: each start has frame numbers of its own.

A stream has one sender, and a new start of it follows the one before. Two senders under one name are two starts at the
same time: their packets come in turn, and the layers, repetitions and numbers of each are kept apart.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from edgesem.packet.packet import MAX_LAYERS, Packet
from edgesem.packet.replay import Replay
from runtime.protocol.clock import elapsed_s
from runtime.receiver.frame_order import FrameOrder, FramesBehind
from runtime.receiver.reassembly import Reassembly

_MOST = 8
_UNDER_WAY = 2
"""So many starts may have a frame under way: a stranger could invent more of them."""


class SenderStart:
    """One start of a sender: which of its ordinary packets came, and the frame under way. Not thread-safe."""

    def __init__(self, layers: int = MAX_LAYERS) -> None:
        self._layers = layers
        self.fuller_ms: int | None = None
        """When the latest frame with more than a base layer was captured."""
        self.forget()

    def forget(self) -> None:
        """Begin anew: no packet has come."""
        self.reassembly = Reassembly(self._layers)
        self.replay = Replay()


class UnsealedStarts:
    """The starts in a stream without a key, told apart by their epochs: the eight heard last. Not thread-safe.

    `has_two_senders` says whether another start than the newest lives too. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        layers: int = MAX_LAYERS,
        has_two_senders: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._layers, self._has_two_senders, self._clock = layers, has_two_senders, clock
        self._starts: OrderedDict[int, tuple[SenderStart, FrameOrder]] = OrderedDict()
        self._heard: int | None = None
        """The epoch of the packet that was looked at last."""
        self._newest: Packet | None = None
        """The newest packet of the newest start."""
        self._behind = FramesBehind(clock)
        """Frames of starts before that."""

    def all(self) -> list[SenderStart]:
        """All starts."""
        return [start for start, _ in self._starts.values()]

    def of(self, packet: Packet) -> SenderStart:
        """The start that a packet is of."""
        return self._entry(packet)[0]

    def is_plausible(self, packet: Packet) -> bool:
        """Whether a packet's number may be true; False: it is too far ahead to be believed."""
        return self._entry(packet)[1].is_plausible(packet)

    def has_gone_back(self, packet: Packet) -> bool:
        """Note a plausible packet; whether its sender must be believed to have gone back to it.

        Then what came of this start before is forgotten.
        """
        start, order = self._entry(packet)
        if not order.has_gone_back(packet, later=start.reassembly.is_current(packet)):
            return False
        start.forget()
        return True

    def is_late(self, packet: Packet) -> bool:
        """Whether a packet, no repetition, is of a start that has ended: what a broker still held of it.

        The time of capture alone does not tell, because a board may start without the right time.
        """
        newest, under_way = self._newest, self.of(packet).reassembly.newest
        if newest is not None and under_way == (packet.epoch, packet.frame):
            return False
        if (
            newest is None
            or packet.epoch == newest.epoch
            or under_way is None
            or elapsed_s(newest.time_ms, packet.time_ms) >= 0
            or self._has_two_senders()
        ):
            self._go_on(packet)
            return False
        if not self._behind.are_true(packet):
            return True
        self._go_on(packet)
        return False

    def _go_on(self, packet: Packet) -> None:
        self._newest = packet
        self._behind.moved()

    def _entry(self, packet: Packet) -> tuple[SenderStart, FrameOrder]:
        entry = self._starts.get(packet.epoch) or (SenderStart(self._layers), FrameOrder(self._clock))
        self._starts[packet.epoch] = entry
        if packet.epoch != self._heard:
            self._heard = packet.epoch
            self._starts.move_to_end(packet.epoch)
            for start in self.all()[-_UNDER_WAY - 1 : -_UNDER_WAY]:
                start.reassembly.flush()
            if len(self._starts) > _MOST:
                self._starts.popitem(last=False)
        return entry
