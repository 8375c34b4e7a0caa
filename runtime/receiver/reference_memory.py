"""Reference memory of a receiver: one bound on the latents of all streams that inter frames may refer to."""

from __future__ import annotations

from collections.abc import Collection

from edgesem.codec.latent import Latent
from edgesem.packet.packet import Packet
from runtime.receiver.stream import Stream

_SILENT_S = 5.0
"""A stream that was silent for so long beside the one that needs room loses its references."""


class ReferenceMemory:
    """Bound on the latents of all streams. Not thread-safe: use it under `Streams.lock`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes

    def hold(self, stream: Stream, packet: Packet, latent: Latent, streams: Collection[Stream]) -> bool:
        """Hold the latent of a decoded frame of `stream`, one of `streams`; whether there was room.

        Where there is none, the stream that was silent longest loses its latents, or the one with the most its oldest.
        """
        key = packet.epoch, packet.frame, len(packet.chunks)
        stream.references.put(*key, latent)
        stream.reference_bytes = stream.references.size_bytes
        total = sum(one.reference_bytes for one in streams)
        while total > self._limit_bytes:
            holders = [one for one in streams if one.reference_bytes]
            victim = min(holders, key=lambda one: one.heard_s)
            before = victim.reference_bytes
            if stream.heard_s - victim.heard_s >= _SILENT_S:
                victim.references.clear()
            else:
                victim = max(holders, key=lambda one: one.reference_bytes)
                before = victim.reference_bytes
                victim.references.drop_oldest()
            victim.reference_bytes = victim.references.size_bytes
            total -= before - victim.reference_bytes
        return stream.references.get(*key) is not None
