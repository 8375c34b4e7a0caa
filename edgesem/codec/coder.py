"""Coder: between a latent and the bytes of its layers, by rounding, context model and entropy coder.

Latent -> try_level -> Trial -> code -> chunks -> decode -> Latent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.codec.context import ContextModel, Networks, Walk
from edgesem.codec.copying import Copies, Differences
from edgesem.codec.latent import Latent, Levels, by_position, levels_of
from edgesem.codec.motion import moved
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import in_steps
from edgesem.codec.rounding import Rounder, coded_of, count_large
from edgesem.entropy import rans
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import (
    CHANNELS,
    GROUPS,
    STRIDE,
    CodedPositions,
    Planes,
)
from edgesem.entropy.tables import Tables
from edgesem.errors import MissingReference, PacketError, UsageError
from edgesem.packet.copy_map import Mask
from edgesem.packet.packet import HEADER_BYTES, Packet
from edgesem.packet.side_information import Region, SideInformation

_LARGE_BITS = 3.35  # what a large value costs (`rounding.count_large`), measured on photographs
_NOTHING = np.zeros((CHANNELS, 0, 0), np.float32)


class Trial:
    """A latent rounded at one quality, with its cost, before it is coded. It is rounded as far as it is asked about.

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
            origin = with_copies(self._latent.values, self._origin, self._mask) if self._layers else self._origin
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


class Coder:
    """The part of a bundle that both ends must compute alike: the same integers on every machine.

    `networks_of(names)` gives the networks of these graphs of the bundle. It may be called from several threads at
    once.
    """

    def __init__(self, bundle: Bundle, networks_of: Callable[[Sequence[str]], Networks]) -> None:
        self.bundle = bundle
        self._networks_of = networks_of
        self.gain = bundle.gain
        """float32 [256, 96]: see `Bundle.gain`."""

    def try_level(
        self,
        latent: Latent,
        level: int,
        layers: int,
        region: Region | None = None,
        reference: Latent | None = None,
        ledger: npt.NDArray[np.float64] | None = None,
        differences: Differences | None = None,
        refined_bytes: float = float("inf"),
    ) -> Trial:
        """Round a latent at one quality (0..255) and look up what its symbols cost, without coding them.

        `ledger`, float64 [positions], gets the bits of each position added. `differences` say what is copied from
        the reference, and `refined_bytes` how much may be spent on making finer what has not changed.
        """
        height, width = latent.values.shape[1:]
        levels = levels_of(height, width, level, region)
        steps = by_position(self.gain, levels)
        copies = None if differences is None else differences.copies(steps, levels, refined_bytes)
        rounded = replace(latent, level=level, region=region, origin=latent.values)
        if reference is not None and copies is not None:
            if copies.mask.all():  # the level says nothing then, and should tell what is there
                rounded = replace(rounded, level=int(np.median(reference.levels)))
            rounded = _copied(rounded, reference, levels, copies.mask)
        nothing = copies is not None and bool(copies.mask.all())
        model, known = (None, None) if nothing else self._context(reference, steps)
        origin = None if reference is None else reference.values if reference.origin is None else reference.origin
        tables = self._tables(reference)
        return Trial(model, tables, latent, rounded, levels, steps, layers, known, ledger, copies, origin)

    def try_options(
        self,
        latent: Latent,
        level: int,
        options: PackOptions,
        layers: int | None = None,
        differences: Differences | None = None,
        refined_bytes: float = float("inf"),
    ) -> Trial:
        """The same as `options` say, with fewer `layers` if they are given, and `differences` if they are known."""
        if differences is None:
            differences = options.differences_of(latent)
        region, layers = options.side_info.region, options.layers if layers is None else layers
        return self.try_level(latent, level, layers, region, options.reference, None, differences, refined_bytes)

    def decode(self, packet: Packet, reference: Latent | None) -> Latent:
        """The latent that a packet's symbols describe. Errors as of `Codec.unpack`."""
        height, width = -(-packet.height // STRIDE), -(-packet.width // STRIDE)
        reference, copied = self._needed(packet, reference, (CHANNELS, height, width)), packet.copied
        levels = levels_of(height, width, packet.q, packet.side_info.region)
        decoded = Latent(_NOTHING, packet.width, packet.height, packet.q, packet.side_info.region)
        if reference is not None and copied is not None:
            decoded = _copied(decoded, reference, levels, copied)
            if copied.all():
                if any(packet.chunks):
                    raise PacketError("packet: has symbols, though all of it is copied")
                return decoded
        tables = self._tables(reference)
        first, inter = tables.first, reference is not None
        decoder = rans.Decoder(packet.chunks, tables)

        def fill(index: int, mean: Planes, scale: Planes) -> Planes:
            coded, scales = coded_of(scale, first, index, inter)
            mean[coded] += tables.eighths.take(decoder.read(scales))
            return mean

        steps = by_position(self.gain, levels)
        positions = CodedPositions(levels.shape, copied)
        walk = self._context(reference, steps)[0].walk(levels, len(packet.chunks), positions)
        values = walk.units(fill, steps, decoded.values)
        if len(packet.chunks) == packet.total_layers:
            decoder.finish()
        return replace(decoded, values=values)

    def check_reference(self, latent: Latent, side_info: SideInformation, reference: Latent | None) -> None:
        """Raise UsageError unless a packet with this side information can refer to `reference`; None: to nothing."""
        if (side_info.prediction is None) != (reference is None):
            raise UsageError("a reference goes with side information that names its frame: give both or neither")
        if reference is None:
            return
        if not self.bundle.has_reference:
            raise UsageError("this bundle cannot refer to earlier pictures: export one with --reference")
        if reference.values.shape != latent.values.shape:
            raise UsageError(
                f"a reference of {reference.width}x{reference.height} is of no use to a picture of "
                f"{latent.width}x{latent.height}"
            )

    def _needed(self, packet: Packet, reference: Latent | None, shape: tuple[int, int, int]) -> Latent | None:
        """The reference that a packet is decoded with, None if it needs none."""
        named = packet.side_info.prediction
        if named is None:
            return None
        if not self.bundle.has_reference:
            raise PacketError("packet: refers to another picture, which this bundle cannot")
        if reference is None:
            raise MissingReference(
                f"packet: frame {packet.frame} refers to {named.layers} layers of frame {named.frame}, which is not "
                "here: ask the sender for a keyframe"
            )
        if reference.level is None or reference.values.shape != shape:
            raise PacketError(f"packet: what it refers to, {named.frame}, is no reference for a picture of this size")
        return reference if (field := packet.motion) is None else moved(reference, field)

    def _tables(self, reference: Latent | None) -> Tables:
        return self.bundle.tables if reference is None else self.bundle.reference_tables

    def _context(self, reference: Latent | None, steps: Planes) -> tuple[ContextModel, Planes | None]:
        """The context model, and what it knows of the reference: its values in 1/8 steps."""
        if reference is None:
            return ContextModel(self._networks_of(KEY)), None
        known = in_steps(reference, steps)
        return ContextModel(self._networks_of(REFERENCE), known, reference.reference_levels), known


def with_copies(values: Planes, reference: Planes, copied: Mask | None) -> Planes:
    """Values [96, h, w] with the reference's own where they are copied."""
    return values if copied is None else np.where(copied, reference, values)


def _copied(latent: Latent, reference: Latent, levels: Levels, copied: Mask) -> Latent:
    """A latent with the values of its reference, and the quality of each position: the reference's where copied."""
    own = np.where(copied, reference.levels, levels).astype(np.uint8)
    return replace(latent, values=reference.values, copied_levels=own)
