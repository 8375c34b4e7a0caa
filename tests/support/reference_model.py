"""A model of the codec for tests of references: what is decoded tells all that went into it."""

from types import SimpleNamespace

import numpy as np

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation


class Model:
    """Stands in for a codec: what is decoded is a number that depends on all that went into it, as a latent does."""

    has_reference = True

    def unpack(self, packet, reference=None):
        assert (packet.side_info.reference is None) == (reference is None)
        return hash((packet.chunks, reference))

    def make(self, dice, epoch, frame, layers, name, reference):
        whole = packet(epoch, frame, layers, name)
        return whole, self.unpack(whole, reference)

    def same(self, latent, other):
        return latent == other

    def analyze(self, image):
        return SimpleNamespace(values=np.zeros((96, 4, 4)), width=64, height=64)

    def pack_decoded(self, latent, *, budget_bytes, options):
        return packet(options.epoch, options.frame, 4, options.side_info.reference), latent

    def pack(self, latent, **about):
        return self.pack_decoded(latent, **about)[0]

    def is_cut(self, latent, packet, previous):
        return False


def packet(epoch, frame, layers, reference=None):
    chunks = tuple(f"{epoch} {frame} {layer}".encode() for layer in range(layers))
    return Packet(1, epoch, frame, 0, 64, 64, 9, layers, 0, chunks, side_info=SideInformation(reference=reference))
