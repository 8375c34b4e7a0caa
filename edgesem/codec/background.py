"""Background pictures: what both ends know of a fixed camera's place before its first packet.

Each is a packet in a file of the bundle. A keyframe may be predicted from one, as an inter frame is from an earlier
frame, and still needs no other packet (compare the long-term reference pictures of HEVC).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock

import numpy as np

from edgesem.bundle.bundle import Bundle
from edgesem.codec.latent import LEVELS, Latent
from edgesem.errors import BundleError, PacketError
from edgesem.packet.packet import MAX_PACKET_BYTES, Packet
from edgesem.packet.side_information import MAX_LAYERS, Reference

log = logging.getLogger(__name__)


class Backgrounds:
    """The background pictures of a bundle, decoded when they are first needed. Thread-safe.

    decode: gives the latent of a packet that refers to nothing.
    """

    def __init__(self, bundle: Bundle, decode: Callable[[Packet], Latent]) -> None:
        self._bundle, self._decode = bundle, decode
        self._latents: tuple[Latent, ...] | None = None
        self._said_unfit = False
        self._lock = Lock()

    @property
    def latents(self) -> tuple[Latent, ...]:
        """Their latents, by number. Raises BundleError if a file is no keyframe of the bundle."""
        with self._lock:
            if self._latents is None:
                self._latents = tuple(map(self._read, self._bundle.backgrounds))
            return self._latents

    def _read(self, name: str) -> Latent:
        path = self._bundle.folder / name
        try:
            with path.open("rb") as file:
                packet = Packet.from_bytes(file.read(MAX_PACKET_BYTES + 1))
            if (
                packet.side_info.prediction is not None
                or packet.first_layer
                or len(packet.chunks) < packet.total_layers
            ):
                raise PacketError("packet: it is no whole keyframe")
            if packet.bundle_id != self._bundle.plain_id:
                raise PacketError(f"packet: it was made with bundle {packet.bundle_id}")
            return self._decode(packet)
        except (OSError, PacketError) as error:
            raise BundleError(f"{path} is no background picture: {error}; add it again") from error

    def nearest(self, latent: Latent) -> tuple[Reference, Latent] | None:
        """The name and latent of the one that is most like a latent; None where none has its size.

        Distance is the mean logarithm of differences in quantizer steps, about what they cost in bits.
        """
        gain = self._bundle.gain[LEVELS // 2][:, None, None]
        found = [
            (float(np.log1p(np.abs(latent.values - other.values) * gain).mean()), number)
            for number, other in enumerate(self.latents)
            if (other.width, other.height) == (latent.width, latent.height)
        ]
        if not found:
            self._say_unfit(latent)
            return None
        number = min(found)[1]
        return Reference(number, MAX_LAYERS), self.latents[number]

    def _say_unfit(self, latent: Latent) -> None:
        """Log, once, that no background picture has the size of a frame."""
        if self._latents and not self._said_unfit:
            self._said_unfit = True
            size = f"{latent.width}x{latent.height}"
            sizes = ", ".join(sorted({f"{other.width}x{other.height}" for other in self._latents}))
            log.warning("frames of %s cannot use the background pictures of the bundle, which are %s", size, sizes)

    def of(self, packet: Packet) -> Latent | None:
        """The latent that a packet is predicted from; None where it is from none. PacketError where it is not here."""
        named = packet.side_info.background
        if named is None:
            return None
        if named.frame >= len(self.latents) or named.layers != MAX_LAYERS:
            raise PacketError(
                f"packet: refers to {named.layers} layers of background picture {named.frame}; this bundle has "
                f"{len(self.latents)} of {MAX_LAYERS} layers"
            )
        return self.latents[named.frame]
