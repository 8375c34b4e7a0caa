"""An independent reader of edgesem's packets, written from docs/protocol.md and docs/bitstream.md alone.

It uses nothing of the program: that is what it is for. This module puts the parts together: messages of one frame, and
decoding with the latents of earlier frames. The parts are

- packet.py: header, side information, chunks, topics;
- seal.py: sealed packets, tags of messages;
- cbor.py, messages.py: acknowledgements, states, commands, births;
- pieces.py: promised packets that come in pieces;
- rans.py, latent.py: from chunks to symbols, values, latent and picture.
"""

from __future__ import annotations

import numpy as np

from tests.independent.latent import Bundle, Decoded, decode, moved
from tests.independent.packet import Packet, Reference, SideInformation, copied_of, motion_of, read_packet
from tests.independent.refusal import RefusedError

COMMON = ("bundle_id", "epoch", "frame", "time_ms", "width", "height", "q", "total_layers")


class Frame:
    """The messages of one frame, put together. They may come in any order."""

    def __init__(self) -> None:
        self.common: dict[str, int] = {}
        self.side = SideInformation()
        self.chunks: dict[int, bytes] = {}

    def add(self, packet: Packet) -> None:
        """Take one message. Refused if it contradicts the ones before."""
        common = {name: getattr(packet.header, name) for name in COMMON}
        if self.common and common != self.common:
            raise RefusedError("contradiction")
        self.common = common
        first = packet.header.first_layer
        if first == 0 and 0 not in self.chunks:
            self.side = packet.side
        for layer, chunk in enumerate(packet.chunks, first):
            self.chunks.setdefault(layer, chunk)

    def run(self) -> tuple[bytes, ...]:
        """The chunks of the longest run of layers from 0 on."""
        found: list[bytes] = []
        while len(found) in self.chunks:
            found.append(self.chunks[len(found)])
        return tuple(found)

    @property
    def size(self) -> tuple[int, int]:
        return self.common["width"], self.common["height"]


class FrameDecoder:
    """Decodes frames of one stream, and holds all latents that later frames may refer to."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.held: dict[tuple[int, int, int], Decoded] = {}

    def decode(self, frame: Frame, layers: int = 4) -> Decoded:
        """Decode at most so many layers. Refused without the base layer or without the reference."""
        chunks = frame.run()[:layers]
        if not chunks:
            raise RefusedError("no base layer")
        epoch, reference = frame.common["epoch"], None
        if (named := frame.side.reference) is not None:
            found = self.held.get((epoch, named.frame, named.layers))
            if named.of_bundle:
                found = self.background(named)
            if found is None:
                raise RefusedError("reference", "not held")
            reference = found.known()
            if (motion := motion_of(frame.side, *frame.size)) is not None:
                reference = moved(reference, motion)
        copied = copied_of(frame.side, *frame.size)
        result = decode(
            self.bundle,
            chunks,
            frame.common["total_layers"],
            frame.size,
            frame.common["q"],
            frame.side.region,
            reference,
            None if copied is None else np.array(copied),
        )
        self.held[epoch, frame.common["frame"], len(chunks)] = result
        return result

    def background(self, named: Reference) -> Decoded:
        """A background picture of the bundle: the packet in its file, decoded whole."""
        names = self.bundle.backgrounds()
        if named.frame >= len(names) or named.layers != 4:
            raise RefusedError("reference", "no background picture")
        frame = Frame()
        data = (self.bundle.folder / names[named.frame]).read_bytes()
        frame.add(read_packet(data, self.bundle.id(backgrounds=False)))
        return FrameDecoder(self.bundle).decode(frame)
