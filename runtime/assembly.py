"""Layers in, frames out: when no more is to be expected of a frame."""

from __future__ import annotations

from edgesem.errors import PacketError
from edgesem.packet import Packet


class Assembly:
    """The layers that have come of the newest frame.

    A frame is finished when all its layers are here, or when a layer of a later frame is: a sender goes on to the next
    frame rather than send the rest of an old one.
    """

    def __init__(self) -> None:
        self._parts: dict[int, Packet] = {}
        self._newest: tuple[int, int] | None = None
        """Epoch and frame that `_parts` are of, or that was finished last."""

    def add(self, part: Packet) -> list[Packet]:
        """Take one message's packet and return the frames that it finishes, oldest first.

        A layer that was here before, or comes after its frame was finished, changes nothing. Raises PacketError if it
        contradicts the other layers of its frame; they stay as they are.
        """
        epoch, frame = part.epoch, part.frame
        finished: list[Packet] = []
        # Another epoch is a sender that started anew and counts from 0 again.
        if self._newest is None or epoch != self._newest[0] or frame > self._newest[1]:
            finished = self.flush()
            self._newest = (epoch, frame)
        elif frame < self._newest[1] or not self._parts or part.first_layer in self._parts:
            return finished
        elif 0 in self._parts:
            Packet.join([*self._parts.values(), part])
        self._parts[part.first_layer] = part
        if len(self._parts) == part.total_layers:
            finished += self.flush()
        return finished

    def flush(self) -> list[Packet]:
        """The frame under way as far as it has come: one, or none if not even its base layer is here."""
        parts, self._parts = list(self._parts.values()), {}
        try:
            return [Packet.join(parts)]
        except PacketError:
            return []
