"""Reassembly buffer of one stream: joins the layers of a frame, and says when no more of them are expected."""

from __future__ import annotations

import time
from collections import deque

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, Packet
from runtime.protocol.clock import elapsed_s

_EPOCHS = 8


class Reassembly:
    """Reassembly buffer of one stream: the layers of its newest frame. Not thread-safe.

    A frame is complete when all its layers are here (or as many as we subscribed to). It is also finished when a layer
    of a later frame comes, because a sender never returns to an older frame.
    """

    def __init__(self, layers: int = MAX_LAYERS) -> None:
        self._layers = layers
        self._parts: dict[int, Packet] = {}
        self._newest: tuple[int, int] | None = None
        """Epoch and frame of `_parts`, or of the frame that was finished last."""
        self._newest_ms = 0
        """Its capture time."""
        self._epochs: deque[int] = deque(maxlen=_EPOCHS)
        """The epochs seen lately, that of `_newest` among them."""
        self._last_s = 0.0
        """When the last part came, by the monotonic clock."""
        self._given = 0
        """Number of layers of the present frame that were returned already."""

    def check(self, part: Packet) -> None:
        """Raise PacketError if `part` contradicts the layers of its frame that are here."""
        known = next(iter(self._parts.values()), part)
        if (part.epoch, part.frame) == (known.epoch, known.frame) and _about(part) != _about(known):
            raise PacketError(f"packet: layer {part.first_layer} of frame {part.frame} does not fit the other layers")

    @property
    def newest(self) -> tuple[int, int] | None:
        """Epoch and number of the newest frame; None before the first packet."""
        return self._newest

    def is_current(self, part: Packet) -> bool:
        """Whether a packet is of the newest frame or a later one."""
        newest = self._newest
        return newest is None or (part.epoch, part.frame) == newest or self._is_later(part, *newest)

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
        """Finish the present frame: returns it with the layers that are here, unless they were all returned before."""
        packets = self.early()
        self._parts, self._given = {}, 0
        return packets

    def early(self) -> list[Packet]:
        """Return the present frame as `flush` does, but still accept its other layers."""
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
        """When the present frame will have waited `patience_s` for its next layer, by the monotonic clock.

        None if all its layers were returned before.
        """
        run = next(layer for layer in range(MAX_LAYERS + 1) if layer not in self._parts)
        return self._last_s + patience_s if run > self._given else None


def _about(packet: Packet) -> tuple[int, ...]:
    """The header fields that are the same in all layers of a frame."""
    return packet.time_ms, packet.width, packet.height, packet.q, packet.total_layers, packet.bundle_id
