"""Held latent: what a receiver keeps of a decoded frame, for the inter frames that will refer to it.

A decoded value is one quotient of an integer and a number of the bundle, so the integer says it to the bit. Most are 0,
and nearly all others fit one byte: they take a tenth of what floats take, in memory and on the way to a decoder and
back. Only who has the bundle can read them: the decoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.latent import Latent, by_position
from edgesem.entropy.schedule import CHANNELS, MEAN_GRID, STRIDE
from edgesem.packet.side_information import Region

Gain = NDArray[np.float32]
"""float32 [256, 96], `Bundle.gain`."""
_LARGEST, _LARGEST_BYTE, _ESCAPE = 32767, 127, -128


@dataclass(frozen=True)
class HeldLatent:
    """A decoded latent in the form in which a receiver holds it. Immutable."""

    values: bytes
    """In 1/8 steps: for each a bit, whether it is not 0, and of those int8, where -128 stands for one of the int16
    behind. Or as they are, float32, where integers do not say them."""
    copied_levels: bytes
    """As those of the latent; empty for None."""
    width: int
    height: int
    level: int
    region: Region | None

    @property
    def size_bytes(self) -> int:
        """What it takes of memory."""
        return len(self.values) + len(self.copied_levels)

    @classmethod
    def of(cls, latent: Latent, gain: Gain) -> HeldLatent:
        """What holds a decoded latent to the bit."""
        from edgesem.codec.reference import in_units  # who only holds it has no coder

        steps = by_position(gain, latent.levels)
        eighths = np.rint(latent.values * steps * np.float32(MEAN_GRID)) + np.float32(0)  # -0 has no integer
        same = np.array_equal(in_units(eighths, steps).view(np.uint32), latent.values.view(np.uint32))
        if same and np.abs(eighths).max() <= _LARGEST:
            there = eighths != 0
            whole = eighths[there].astype(np.int16)
            large = np.abs(whole) > _LARGEST_BYTE
            small = np.where(large, _ESCAPE, whole).astype(np.int8)
            values = np.packbits(there).tobytes() + small.tobytes() + whole[large].tobytes()
        else:
            values = latent.values.tobytes()
        levels = b"" if latent.copied_levels is None else latent.copied_levels.tobytes()
        return cls(values, levels, latent.width, latent.height, latent.level or 0, latent.region)

    def latent(self, gain: Gain) -> Latent:
        """The latent. ValueError if these bytes do not hold one."""
        from edgesem.codec.reference import in_units

        shape = CHANNELS, -(-self.height // STRIDE), -(-self.width // STRIDE)
        levels = np.frombuffer(self.copied_levels, np.uint8).reshape(shape[1:]) if self.copied_levels else None
        values = np.zeros(shape, np.float32)
        latent = Latent(values, self.width, self.height, self.level, self.region, levels)
        if len(self.values) == values.nbytes:
            values[:] = np.frombuffer(self.values, np.float32).reshape(shape)
        else:
            mask_end = -(-values.size // 8)
            bits = np.unpackbits(np.frombuffer(self.values, np.uint8, mask_end), count=values.size)
            there = bits.astype(bool).reshape(shape)
            small_end = mask_end + np.count_nonzero(there)
            whole = np.frombuffer(self.values[mask_end:small_end], np.int8).astype(np.int16)
            whole[whole == _ESCAPE] = np.frombuffer(self.values[small_end:], np.int16)
            values[there] = whole
            values[:] = in_units(values, by_position(gain, latent.levels))
        return latent
