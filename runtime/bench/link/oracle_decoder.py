"""Reference decoder of a bench run: what each packet of a sender really holds, from all packets that it made."""

from __future__ import annotations

from typing import Any

from edgesem.bundle.bundle import Bundle
from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.codec.options import DEFAULT_OPTIONS, PackOptions
from edgesem.packet.packet import Packet


class RecordingCodec(Codec):
    """Codec that keeps the packets it made in `made`, by (epoch, frame); the last one of each is what was sent."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        super().__init__(bundle, threads)
        self.made: dict[tuple[int, int], Packet] = {}

    def pack_decoded(
        self,
        latent: Latent,
        *,
        budget_bytes: int | None = None,
        quality: float | None = None,
        options: PackOptions = DEFAULT_OPTIONS,
    ) -> tuple[Packet, Latent]:
        """As `Codec.pack_decoded`."""
        packet, decoded = super().pack_decoded(latent, budget_bytes=budget_bytes, quality=quality, options=options)
        self.made[packet.epoch, packet.frame] = packet
        return packet, decoded


class OracleDecoder:
    """Decodes any packet of a stream, from any number of its layers, through the frames that it refers to."""

    def __init__(self, codec: Any, packets: dict[tuple[int, int], Packet]) -> None:
        self._codec, self._packets = codec, packets
        self._latents: dict[tuple[int, int, int], Any] = {}

    def latent(self, epoch: int, frame: int, layers: int) -> Any:
        """The latent in the first `layers` layers of a frame. KeyError if the packet, or one it refers to, is none."""
        chain, known = [], None
        while True:
            if (known := self._latents.get((epoch, frame, layers))) is not None:
                break
            chain.append(self._packets[epoch, frame].prefix(layers))
            if (reference := chain[-1].side_info.reference) is None:
                break
            frame, layers = reference.frame, reference.layers
        for packet in reversed(chain):
            known = self._codec.unpack(packet, known)
            self._latents[epoch, packet.frame, len(packet.chunks)] = known
        return known
