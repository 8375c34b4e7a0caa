"""Packetizer: puts a frame's layers into messages; the base layer goes alone, unless all take but a moment.

A small frame does not come here: it goes whole (`LayerOutlet`).
"""

from __future__ import annotations

from dataclasses import replace

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import NO_SIDE_INFO

_MOMENT_S = 0.01
"""Layers that the link takes in less are not worth a message each: nothing could be pre-empted in that time."""
_TOGETHER_S = 0.08
"""Above the base layer, whose time counts most, to pre-empt is worth less than the messages that it takes."""


def next_part(rest: Packet, *, rate_bps: float, around_bytes: int, separate: bool) -> Packet:
    """The next message of what waits of a frame; one layer if they are to be kept `separate`.

    rate_bps: what the link bears, 0 if that is not known. around_bytes: what each message has besides its packet.
    """

    def takes_s(packet: Packet) -> float:
        return 8 * (around_bytes + packet.size_bytes) / rate_bps

    if separate or not rate_bps:
        return _first(rest, 1)
    if takes_s(rest) <= _MOMENT_S:
        return rest
    count = 1
    while rest.first_layer > 0 and count < len(rest.chunks) and takes_s(_first(rest, count + 1)) <= _TOGETHER_S:
        count += 1
    return _first(rest, count)


def after(packet: Packet, count: int) -> Packet | None:
    """A packet without its first `count` layers; None if none is left."""
    chunks = packet.chunks[count:]
    return (
        replace(packet, first_layer=packet.first_layer + count, chunks=chunks, side_info=NO_SIDE_INFO)
        if chunks
        else None
    )


def _first(packet: Packet, count: int) -> Packet:
    return replace(packet, chunks=packet.chunks[:count])
