"""Replay window: which packets of a stream came already, so that a repeat is acknowledged again but not shown again.

A window of bits behind the newest number, as IPsec has it (RFC 4303, section 3.4.3).
"""

from __future__ import annotations

from collections import OrderedDict

from edgesem.packet.packet import MAX_LAYERS, Packet

_EPOCHS = 8
_WINDOW_FRAMES = 1024
_PROMISED = 8192


class Replay:
    """Replay window of one stream; about 2 MB when full. Not thread-safe.

    Of ordinary frames, the last 1024 numbers of each of 8 epochs are known one by one, and older numbers count as
    repeats. Promised frames come late and in any order, so the last 8192 of them are known one by one.
    """

    def __init__(self) -> None:
        self._epochs: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """Epoch -> newest frame, and a bit for each layer of it and of the frames before it."""
        self._promised: OrderedDict[tuple[int, int, int], None] = OrderedDict()

    def fresh(self, packet: Packet) -> bool:
        """Whether a layer of this message was not here before. Ask only for what has been authenticated."""
        if packet.promised:
            return self._fresh_promised((packet.epoch, packet.frame, packet.first_layer))
        newest, seen = self._epochs.pop(packet.epoch, (packet.frame, 0))
        if packet.frame > newest:
            moved = MAX_LAYERS * (packet.frame - newest)
            seen = seen << moved if moved < MAX_LAYERS * _WINDOW_FRAMES else 0
            seen &= (1 << MAX_LAYERS * _WINDOW_FRAMES) - 1
            newest = packet.frame
        back = newest - packet.frame
        layers = ((1 << len(packet.chunks)) - 1) << packet.first_layer
        bits = layers << MAX_LAYERS * back if back < _WINDOW_FRAMES else 0
        fresh = bool(bits & ~seen)
        self._epochs[packet.epoch] = (newest, seen | bits)
        if len(self._epochs) > _EPOCHS:
            self._epochs.popitem(last=False)
        return fresh

    def _fresh_promised(self, key: tuple[int, int, int]) -> bool:
        if key in self._promised:
            self._promised.move_to_end(key)
            return False
        self._promised[key] = None
        if len(self._promised) > _PROMISED:
            self._promised.popitem(last=False)
        return True
