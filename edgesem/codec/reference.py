"""Reference latents: what both ends have decoded, to the bit, so that the next packet codes only what differs.

Only a decoded latent can be a reference, never the encoder's own: both ends compute the same float32 numbers from a
packet, because each is one quotient of an integer and a number of the bundle. It is kept in the encoder's units. What
the decoders take, after `Bundle.shrinkage`, is smaller in most channels by far and predicts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgesem.entropy import kernel
from edgesem.entropy.schedule import MEAN_GRID, VALUE_LIMIT
from edgesem.errors import UsageError

if TYPE_CHECKING:
    from edgesem.codec.latent import Latent

Planes = npt.NDArray[np.float32]


def in_steps(reference: Latent, gain: Planes) -> Planes:
    """A reference as the context model takes it: integers in 1/8 steps of the present quality, float32 [96, h, w].

    gain: [96, h, w] or [96, 1, 1]. Products and roundings of single float32 numbers, so the same on every machine.
    """
    if reference.level is None:
        raise UsageError("a reference must be a latent that was decoded, as pack_decoded and unpack return it")
    loops = kernel.load()
    if loops is not None:
        return loops.in_steps(reference.values, gain, VALUE_LIMIT)
    steps = np.multiply(reference.values, gain, order="C")
    steps *= np.float32(MEAN_GRID)
    return np.clip(np.rint(steps, out=steps), -VALUE_LIMIT, VALUE_LIMIT, out=steps)


def in_units(values: Planes, steps: Planes) -> Planes:
    """Values in 1/8 steps as the encoder would have them: single operations on float32, the same on every machine."""
    found = values / np.float32(MEAN_GRID)
    found /= steps
    return found
