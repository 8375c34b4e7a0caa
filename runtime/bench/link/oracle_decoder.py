"""What stands in each packet of a sender, for a decoder that has had all of them: nobody may show anything else."""

from __future__ import annotations

from typing import Any

from edgesem.bundle.bundle import Bundle
from edgesem.codec.codec import Codec
from edgesem.codec.latent import Latent
from edgesem.packet.packet import Packet


class Recorder(Codec):
    """A codec that remembers the packets it made, by epoch and frame; the last of each, for that is what was sent."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        super().__init__(bundle, threads)
        self.made: dict[tuple[int, int], Packet] = {}

    def pack_decoded(self, latent: Latent, **about: Any) -> tuple[Packet, Latent]:
        """As of `Codec`."""
        packet, decoded = super().pack_decoded(latent, **about)
        self.made[packet.epoch, packet.frame] = packet
        return packet, decoded


class OracleDecoder:
    """Decodes any of the packets, from any number of layers, by way of those that it refers to."""

    def __init__(self, codec: Any, packets: dict[tuple[int, int], Packet]) -> None:
        self._codec, self._packets = codec, packets
        self._latents: dict[tuple[int, int, int], Any] = {}

    def latent(self, epoch: int, frame: int, layers: int) -> Any:
        """The latent in the first layers of a frame. KeyError if there is no such packet, or one that it refers to."""
        chain, known = [], None
        while True:
            if (known := self._latents.get((epoch, frame, layers))) is not None:
                break
            chain.append(self._packets[epoch, frame].prefix(layers))
            if (named := chain[-1].side_info.reference) is None:
                break
            frame, layers = named.frame, named.layers
        for packet in reversed(chain):
            known = self._codec.unpack(packet, known)
            self._latents[epoch, packet.frame, len(packet.chunks)] = known
        return known
