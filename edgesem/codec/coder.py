"""Coder: between a latent and the bytes of its layers, by rounding, context model and entropy coder.

Latent -> try_level -> Trial -> code -> chunks -> decode -> Latent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.codec.context import ContextModel, Networks
from edgesem.codec.copying import Differences
from edgesem.codec.latent import Latent, Levels, by_position, levels_of
from edgesem.codec.motion import moved
from edgesem.codec.options import PackOptions
from edgesem.codec.reference import in_steps
from edgesem.codec.rounding import coded_of
from edgesem.codec.trial import Trial
from edgesem.entropy import rans
from edgesem.entropy.schedule import CHANNELS, STRIDE, CodedPositions, Planes
from edgesem.entropy.tables import Tables
from edgesem.errors import MissingReference, PacketError, UsageError
from edgesem.packet.copy_map import Mask
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Region, SideInformation

_NOTHING = np.zeros((CHANNELS, 0, 0), np.float32)


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


def _copied(latent: Latent, reference: Latent, levels: Levels, copied: Mask) -> Latent:
    """A latent with the values of its reference, and the quality of each position: the reference's where copied."""
    own = np.where(copied, reference.levels, levels).astype(np.uint8)
    return replace(latent, values=reference.values, copied_levels=own)
