"""Reference latents: what both ends have decoded, to the bit, so that the next packet codes only what differs.

Only a decoded latent can be a reference, never the encoder's own: both ends compute the same float32 numbers from a
packet, because each is one quotient of an integer and a number of the bundle. It is kept in the encoder's units. What
the decoders take, after `Bundle.shrinkage`, is smaller in most channels by far and predicts nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgesem.entropy.schedule import MEAN_GRID, VALUE_LIMIT
from edgesem.errors import UsageError

if TYPE_CHECKING:
    from edgesem.codec.latent import Latent

Planes = npt.NDArray[np.float32]


def in_steps(reference: Latent, gain: Planes) -> Planes:
    """A reference as the context model takes it: integers in 1/8 steps of the present quality, float32 [96, h, w].

    gain: [96, h, w]. Products and roundings of single float32 numbers, so the same on every machine.
    """
    if reference.level is None:
        raise UsageError("a reference must be a latent that was decoded, as pack_decoded and unpack return it")
    steps = np.rint(reference.values * gain * np.float32(MEAN_GRID))
    return np.ascontiguousarray(np.clip(steps, -VALUE_LIMIT, VALUE_LIMIT), np.float32)


class ReferenceBuffer:
    """Decoded latents that later packets may refer to, by epoch, frame and number of layers; the `size` used last.

    Not thread-safe.
    """

    def __init__(self, size: int = 12) -> None:
        self._size = size
        self._latents: OrderedDict[tuple[int, int, int], Latent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._latents)

    def put(self, epoch: int, frame: int, layers: int, latent: Latent) -> None:
        """Keep a latent. The one used longest ago goes if they become too many, and all of another epoch go at once."""
        key = (epoch, frame, layers)
        if any(old[0] != epoch for old in self._latents):
            self._latents.clear()
        self._latents[key] = latent
        self._latents.move_to_end(key)
        while len(self._latents) > self._size:
            self._latents.popitem(last=False)

    def get(self, epoch: int, frame: int, layers: int) -> Latent | None:
        """The latent, if it is still here; it counts as used now, so that it stays."""
        latent = self._latents.get((epoch, frame, layers))
        if latent is not None:
            self._latents.move_to_end((epoch, frame, layers))
        return latent

    @property
    def size_bytes(self) -> int:
        """Memory of all latents."""
        return sum(latent.values.nbytes for latent in self._latents.values())

    def drop_before(self, frame: int) -> None:
        """Forget the latents of earlier frames."""
        for key in [key for key in self._latents if key[1] < frame]:
            del self._latents[key]

    def drop_oldest(self) -> None:
        """Forget the latent that was used longest ago, if there is one."""
        if self._latents:
            self._latents.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._latents.clear()
