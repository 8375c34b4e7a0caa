"""Coder: between a latent and the bytes of its layers, by rounding, context model and entropy coder.

Latent -> try_level -> Trial -> code -> chunks -> decode -> Latent
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.graph_runner import GraphRunner
from edgesem.codec.context import ContextModel
from edgesem.codec.latent import Latent, Levels, by_position, levels_of
from edgesem.codec.reference import in_steps
from edgesem.entropy import rans
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import (
    CHANNELS,
    MEAN_GRID,
    PASSES,
    STRIDE,
    Pass,
    Planes,
    context_graph,
    positions,
    reference_graph,
    whole,
    within,
)
from edgesem.entropy.tables import MAX_RADIUS, Indices, Tables
from edgesem.errors import MissingReference, PacketError, UsageError
from edgesem.packet.packet import HEADER_BYTES, Packet
from edgesem.packet.side_information import Region, SideInformation


@dataclass(frozen=True)
class Trial:
    """A latent rounded at one quality, with its cost, before it is coded.

    entries: int32 table entries (see `Tables.entry`) by layer and pass; layer_bits: their ideal code length, by layer;
    decoded: the latent that a receiver decodes.
    """

    entries: list[list[Symbols]]
    layer_bits: list[float]
    decoded: Latent
    tables: Tables

    @property
    def bits(self) -> float:
        """Ideal code length of all layers."""
        return sum(self.layer_bits)

    @property
    def size_bytes(self) -> float:
        """The size of its packet without side information, within a few bytes."""
        framing = HEADER_BYTES + 2 * (len(self.entries) - 1) + len(self.entries)
        return framing + (1.0035 * self.bits + rans.LANE_BITS * rans.lanes_for(self.bits) + 16) / 8

    def code(self) -> list[bytes]:
        """The bytes of each layer."""
        return self.code_layers(len(self.entries))

    def code_layers(self, layers: int) -> list[bytes]:
        """The bytes of the first layers, as they would be if there were no others."""
        return rans.encode(self.entries[:layers], self.tables, rans.lanes_for(sum(self.layer_bits[:layers])))


class Coder:
    """The part of a bundle that both ends must compute alike: the same integers on every machine.

    `open_graph(name)` gives the runner of a graph of the bundle. It may be called from several threads at once.
    """

    def __init__(self, bundle: Bundle, open_graph: Callable[[str], GraphRunner]) -> None:
        self.bundle = bundle
        self._open = open_graph
        self._gain = bundle.gain

    def try_level(
        self,
        latent: Latent,
        level: int,
        layers: int,
        region: Region | None = None,
        reference: Latent | None = None,
        ledger: npt.NDArray[np.float64] | None = None,
    ) -> Trial:
        """Round a latent at one quality (0..255) and look up what its symbols cost, without coding them.

        `ledger`, float64 [positions], gets the bits of each position added.
        """
        tables = self._tables(reference)
        height, width = latent.values.shape[1:]
        levels = levels_of(height, width, level, region)
        first, inter = tables.first, reference is not None
        target = whole(latent.values * by_position(self._gain, levels))
        entries: list[list[Symbols]] = [[] for _ in range(layers)]

        def fill(index: int, mean: Planes, scale: Planes) -> Planes:
            sweep = PASSES[index]
            coded, scales = _coded(scale, first, sweep, inter)
            wanted = sweep.read(target)[:, within(index, height, width)].take(coded)
            expected = mean.take(coded)
            symbols = tables.clipped(
                np.rint(wanted - expected / MEAN_GRID).clip(-MAX_RADIUS, MAX_RADIUS).astype(np.int32), scales
            )
            entry = tables.entry(symbols, scales)
            entries[sweep.group].append(entry)
            if ledger is not None:
                spent = np.zeros(scale.size)
                spent[coded] = tables.bits[entry]
                ledger[positions(index, height, width)] += spent.reshape(sweep.stop - sweep.start, -1).sum(0)
            mean[coded] = expected + tables.eighths.take(entry)
            return mean

        values = self._context(levels, reference).walk(levels, layers, fill)
        bits = [sum(float(tables.bits.take(e).sum()) for e in passes) for passes in entries]
        decoded = Latent(self._decoded(values, levels), latent.width, latent.height, level, region)
        return Trial(entries, bits, decoded, tables)

    def decode(self, packet: Packet, reference: Latent | None) -> Latent:
        """The latent that a packet's symbols describe. Errors as of `Codec.unpack`."""
        height, width = -(-packet.height // STRIDE), -(-packet.width // STRIDE)
        reference = self._needed(packet, reference, (CHANNELS, height, width))
        tables = self._tables(reference)
        first, inter = tables.first, reference is not None
        decoder = rans.Decoder(packet.chunks, tables)

        def fill(index: int, mean: Planes, scale: Planes) -> Planes:
            coded, scales = _coded(scale, first, PASSES[index], inter)
            mean[coded] += tables.eighths.take(decoder.read(scales))
            return mean

        levels = levels_of(height, width, packet.q, packet.side_info.region)
        values = self._context(levels, reference).walk(levels, len(packet.chunks), fill)
        if len(packet.chunks) == packet.total_layers:
            decoder.finish()
        decoded = self._decoded(values, levels)
        return Latent(decoded, packet.width, packet.height, packet.q, packet.side_info.region)

    def check_reference(self, latent: Latent, side_info: SideInformation, reference: Latent | None) -> None:
        """Raise UsageError unless a packet with this side information can refer to `reference`; None: to nothing."""
        if (side_info.reference is None) != (reference is None):
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
        """The reference that a packet is decoded with, None if it is a keyframe."""
        named = packet.side_info.reference
        if named is None:
            return None
        if not self.bundle.has_reference:
            raise PacketError("packet: refers to an earlier picture, which this bundle cannot")
        if reference is None:
            raise MissingReference(
                f"packet: frame {packet.frame} refers to {named.layers} layers of frame {named.frame}, which is not "
                "here: ask the sender for a keyframe"
            )
        if reference.level is None or reference.values.shape != shape:
            raise PacketError(f"packet: frame {named.frame} is no reference for a picture of this size")
        return reference

    def _tables(self, reference: Latent | None) -> Tables:
        return self.bundle.tables if reference is None else self.bundle.reference_tables

    def _context(self, levels: Levels, reference: Latent | None) -> ContextModel:
        if reference is None:
            return ContextModel([self._open(context_graph(index)) for index in range(len(PASSES))])
        runners = [self._open(reference_graph(index)) for index in range(len(PASSES))]
        return ContextModel(runners, in_steps(reference, by_position(self._gain, levels)), reference.level or 0)

    def _decoded(self, values: Planes, levels: Levels) -> npt.NDArray[np.float32]:
        """The latent as its encoder would have it: single operations on float32, so the same on every machine."""
        return values / np.float32(MEAN_GRID) / by_position(self._gain, levels)


def _coded(scale: Planes, first: int, sweep: Pass, inter: bool) -> tuple[Indices, Indices]:
    """Indices of the symbols of a pass that are coded, and their scale indices.

    Coded are those whose table is `first` or a later one: earlier tables hold the symbol 0 alone. In the base layer of
    an inter frame all symbols are coded, with table `first` at least: where no change was expected one may still come,
    and the context model of the other layers learns of it from the base layer.
    """
    if inter and sweep.group == 0:
        scale = np.maximum(scale, first)
    coded = np.flatnonzero(scale >= first)
    return coded, scale.take(coded).astype(np.int64)
