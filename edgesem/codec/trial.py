"""Trial: a latent rounded at one quality, with its cost, before it is coded."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgesem.codec.context import ContextModel, Walk
from edgesem.codec.copying import Copies
from edgesem.codec.latent import Latent, Levels
from edgesem.codec.rounding import Rounder, count_large
from edgesem.entropy import rans
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import GROUPS, CodedPositions, Planes
from edgesem.entropy.tables import Tables
from edgesem.packet.copy_map import Mask
from edgesem.packet.packet import HEADER_BYTES

_LARGE_BITS = 3.35  # what a large value costs (`rounding.count_large`), measured on photographs


class Trial:
    """A latent rounded at one quality, as far as it is asked about.

    The last layers are most of the work and few of the bits: `likely_bytes` leaves them out. `Coder.try_level` makes
    trials. Not thread-safe.
    """

    def __init__(
        self,
        model: ContextModel | None,
        tables: Tables,
        latent: Latent,
        rounded: Latent,
        levels: Levels,
        steps: Planes,
        layers: int,
        reference: Planes | None = None,
        ledger: npt.NDArray[np.float64] | None = None,
        copies: Copies | None = None,
        origin: Planes | None = None,
    ) -> None:
        """model: None if all is copied. latent: what is rounded. rounded: what a receiver decodes, with all but the
        values of positions that are coded. levels, steps, reference: of each position, its quality, the quantizer steps
        per unit, and what is referred to, in 1/8 steps. ledger: see `Coder.try_level`. origin: what the
        reference was coded from.
        """
        self.tables, self.copies = tables, copies
        if copies is not None and copies.mask.all():
            layers = 0  # nothing is coded, and no network runs
        self._latent, self._rounded, self._levels, self._steps = latent, rounded, levels, steps
        self._reference, self._origin, self._layers, self._model = reference, origin, layers, model
        self._positions = CodedPositions(levels.shape, self._mask)
        self._rounder = Rounder(
            latent.values, steps, tables, self._positions, layers, inter=reference is not None, ledger=ledger
        )

    @property
    def level(self) -> int:
        """The quality that its packet has, 0..255."""
        return self._rounded.level or 0

    @cached_property
    def _walk(self) -> Walk:
        assert self._model is not None
        return self._model.walk(self._levels, self._layers, self._positions)

    @property
    def _mask(self) -> Mask | None:
        return None if self.copies is None else self.copies.mask

    @property
    def entries(self) -> list[list[Symbols]]:
        """int32 table entries (see `Tables.entry`) by layer and pass; no layers where all is copied."""
        if self._layers:
            self._walk.through(self._layers, self._rounder)
        return self._rounder.entries

    @cached_property
    def layer_bits(self) -> list[float]:
        """The ideal code length of the entries, by layer."""
        return [sum(self._rounder.bits[layer]) for layer in range(len(self.entries))]

    @property
    def bits(self) -> float:
        """Ideal code length of all layers."""
        return sum(self.layer_bits)

    @property
    def size_bytes(self) -> float:
        """The size of its packet without side information, within a few bytes."""
        return self._size_bytes(self.bits)

    def likely_bytes(self, layers: int) -> float:
        """About the same, with no more than the first `layers` layers rounded.

        Of the others, it counts the values that will hardly be rounded to 0.
        """
        if not self._layers:
            return self._size_bytes(0)
        bits = self._bits_of(layers)
        rest = np.s_[sum(GROUPS[:layers]) : sum(GROUPS[: self._layers])]
        reference = None if self._reference is None else self._reference[rest]
        large = count_large(self._latent.values[rest], self._steps[rest], reference, self._mask)
        return self._size_bytes(bits + _LARGE_BITS * large)

    def least_bytes(self, layers: int) -> float:
        """What `size_bytes` will be at the least, with no more than the first `layers` layers rounded."""
        return self._size_bytes(self._bits_of(layers) if self._layers else 0)

    def _bits_of(self, layers: int) -> float:
        """Ideal code length of the first layers."""
        self._walk.through(layers, self._rounder)
        return sum(b for passes in self._rounder.bits[:layers] for b in passes)

    @cached_property
    def decoded(self) -> Latent:
        """The latent that a receiver decodes."""
        decoded = self._rounded
        if self._origin is not None:
            origin = _with_copies(self._latent.values, self._origin, self._mask) if self._layers else self._origin
            decoded = replace(decoded, origin=origin)
        if not self._layers:
            return decoded
        return replace(decoded, values=self._walk.units(self._rounder, self._steps, decoded.values))

    def code(self) -> list[bytes]:
        """The bytes of each layer."""
        return self.code_layers(len(self.entries))

    def code_layers(self, layers: int) -> list[bytes]:
        """The bytes of the first layers, as they would be if there were no others; an empty one if all is copied."""
        if not self._layers:
            return [b""]
        return rans.encode(self.entries[:layers], self.tables, rans.lanes_for(sum(self.layer_bits[:layers])))

    def _size_bytes(self, bits: float) -> float:
        if not self._layers:
            return HEADER_BYTES
        framing = HEADER_BYTES + 2 * (self._layers - 1) + self._layers
        return framing + (1.0035 * bits + rans.LANE_BITS * rans.lanes_for(bits) + 16) / 8


def _with_copies(values: Planes, reference: Planes, copied: Mask | None) -> Planes:
    """Values [96, h, w] with the reference's own where they are copied."""
    return values if copied is None else np.where(copied, reference, values)
