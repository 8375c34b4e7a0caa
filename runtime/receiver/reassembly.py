"""Layers in, frames out: when no more is to be expected of a frame."""

from __future__ import annotations

import time
from collections import deque

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, Packet
from runtime.protocol.clock import elapsed_s

_EPOCHS = 8


class Reassembly:
    """The layers that have come of the newest frame.

    A frame is finished when all its layers are here (or as many as we subscribed to), or when a layer of a later frame
    is: a sender goes on to the next frame rather than send the rest of an old one.
    """

    def __init__(self, layers: int = MAX_LAYERS) -> None:
        self._layers = layers
        self._parts: dict[int, Packet] = {}
        self._newest: tuple[int, int] | None = None
        """Epoch and frame that `_parts` are of, or that was finished last."""
        self._newest_ms = 0
        """When it was captured."""
        self._epochs: deque[int] = deque(maxlen=_EPOCHS)
        """The last ones, of which `_newest` has one."""
        self._last_s = 0.0
        """When the last part came."""
        self._given = 0
        """How many layers of the frame under way were given out already."""

    def check(self, part: Packet) -> None:
        """Raise PacketError if `part` contradicts the layers of its frame that are here."""
        known = next(iter(self._parts.values()), part)
        if (part.epoch, part.frame) == (known.epoch, known.frame) and _about(part) != _about(known):
            raise PacketError(f"packet: layer {part.first_layer} of frame {part.frame} does not fit the other layers")

    def add(self, part: Packet) -> list[Packet]:
        """Take one message's packet, of one layer or more, and return the frames that it finishes, oldest first.

        A layer that was here before, or comes after its frame was finished, changes nothing. Raises PacketError if it
        contradicts the other layers of its frame; they stay as they are.
        """
        self.check(part)
        epoch, frame = part.epoch, part.frame
        finished: list[Packet] = []
        if self._newest is None or self._is_later(part, *self._newest):
            finished = self.flush()
            if epoch not in self._epochs:
                self._epochs.append(epoch)
            self._newest, self._newest_ms = (epoch, frame), part.time_ms
        elif epoch != self._newest[0] or frame < self._newest[1] or not self._parts:
            return finished
        if not self._parts and part.first_layer == 0 and len(part.chunks) >= min(part.total_layers, self._layers):
            return [*finished, part]  # the whole frame in one message
        layers = [part] if len(part.chunks) == 1 else part.split()
        new = [layer for layer in layers if layer.first_layer not in self._parts]
        if not new:
            return finished
        self._parts.update((layer.first_layer, layer) for layer in new)
        self._last_s = time.monotonic()
        if len(self._parts) >= min(part.total_layers, self._layers):
            finished += self.flush()
        return finished

    def flush(self) -> list[Packet]:
        """The frame under way as far as it has come: one, or none if there is nothing of it that was not given out."""
        packets = self.early()
        self._parts, self._given = {}, 0
        return packets

    def early(self) -> list[Packet]:
        """As `flush`, but layers that come later still count."""
        if 0 not in self._parts:
            return []
        packet = Packet.join(list(self._parts.values()))
        if len(packet.chunks) <= self._given:
            return []
        self._given = len(packet.chunks)
        return [packet]

    def _is_later(self, part: Packet, epoch: int, frame: int) -> bool:
        """Whether a packet is of a later frame than the newest one, which is `frame` of `epoch`."""
        if part.epoch == epoch:
            return part.frame > frame
        # Another epoch is a sender that started anew, and counts from 0 again; or what a broker still held of one that
        # ended. The clock alone does not tell, because a board may start without the right time.
        return part.epoch not in self._epochs or elapsed_s(self._newest_ms, part.time_ms) > 0

    def due_s(self, patience_s: float) -> float | None:
        """When the frame under way has waited `patience_s` for its next layer; None if it has nothing new."""
        run = next(layer for layer in range(MAX_LAYERS + 1) if layer not in self._parts)
        return self._last_s + patience_s if run > self._given else None


def _about(packet: Packet) -> tuple[int, ...]:
    """What all layers of a frame agree in."""
    return packet.time_ms, packet.width, packet.height, packet.q, packet.total_layers, packet.bundle_id
