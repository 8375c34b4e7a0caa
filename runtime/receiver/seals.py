"""Seals of one stream: one for each start of a sender whose birth the stream's key has authenticated."""

from __future__ import annotations

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, Packet
from edgesem.packet.seal import Seal
from runtime.receiver.sender_start import SenderStart

_MOST = 4
"""A stream has one sender; there are more after a board was set up anew, or where two share a name."""


class SealedStart(SenderStart):
    """One start of a sender, known by its seal; another start may use the same frame numbers."""

    def __init__(self, public_key: bytes, seal: Seal, floor: tuple[int, int] | None, layers: int) -> None:
        super().__init__(layers)
        self.public_key, self.seal = public_key, seal
        self.floor = floor
        """Epoch and frame up to which ordinary packets came in an earlier run of this receiver: they are repeats."""
        self.newest = floor
        """Epoch and frame of the newest ordinary packet."""

    def is_repeat(self, packet: Packet) -> bool:
        """Whether an ordinary packet came before this receiver was started."""
        return self.floor is not None and packet.epoch == self.floor[0] and packet.frame <= self.floor[1]

    def note(self, packet: Packet) -> None:
        """An ordinary packet was taken."""
        self.newest = max(self.newest or (0, 0), (packet.epoch, packet.frame))


class StreamSeals:
    """Seals of one stream, the one of the last new packet first. Not thread-safe.

    A later start of the same device replaces the earlier one: what was sealed for that cannot be opened any more.
    """

    def __init__(self, layers: int = MAX_LAYERS) -> None:
        self._layers = layers
        self._starts: list[SealedStart] = []
        self.current: SealedStart | None = None
        """The start that the last new packet was of; commands are signed with its seal."""

    @property
    def for_commands(self) -> Seal | None:
        """The seal that signs commands: of the last new packet, before there was one of the latest birth."""
        return self._starts[0].seal if self._starts else None

    def of(self, public_key: bytes) -> Seal | None:
        """The seal of the birth that this key has signed."""
        return next((start.seal for start in self._starts if start.public_key == public_key), None)

    def offer(self, public_key: bytes, seal: Seal, floor: tuple[int, int] | None = None) -> None:
        """Take the seal of an authenticated birth; those that are too many go, the ones that opened nothing first."""
        start = SealedStart(public_key, seal, floor, self._layers)
        kept = [one for one in self._starts if one.public_key != public_key]
        if self.current is not None and self.current not in kept:
            self.current = None
        first = [self.current] if self.current is not None else []
        self._starts = [*first, start, *(one for one in kept if one is not self.current)][:_MOST]

    def open(self, payload: bytes) -> tuple[bytes, SealedStart]:
        """The packet in a sealed one, and the start that it is of. Raises PacketError if no seal opens it."""
        failure = PacketError("the stream's birth, which says how to open its packets, has not come")
        for start in self._starts:
            try:
                return start.seal.open(payload), start
            except PacketError as error:
                failure = error
        raise failure

    def verify(self, message: bytes, topic: str) -> bytes:
        """The payload of a signed message. Raises PacketError if no start has signed it."""
        failure = PacketError("the stream's birth, which says how to check its messages, has not come")
        for start in self._starts:
            try:
                return start.seal.verify(message, topic)
            except PacketError as error:
                failure = error
        raise failure

    def use(self, start: SealedStart) -> None:
        """A new packet of this start has come: its seal is tried first from now on."""
        if start is not self.current:
            self.current = start
            self._starts = [start, *(one for one in self._starts if one is not start)]

    def starts(self) -> list[SealedStart]:
        """All starts."""
        return list(self._starts)
