"""Coder: between a latent and the bytes of its layers, by rounding, context model and entropy coder.

Latent -> try_level -> Trial -> code -> chunks -> decode -> Latent
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

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

_LIKELY_STEPS, _LIKELY_BITS = 0.4, 3.35  # a value beyond so many quantizer steps costs so many bits, measured on photos


class Trial:
    """A latent rounded at one quality, with its cost, before it is coded. It is rounded as far as it is asked about.

    The last layers are most of the work and few of the bits: `likely_bytes` leaves them out. `Coder.try_level` makes
    trials. Not thread-safe.
    """

    def __init__(
        self,
        model: ContextModel,
        tables: Tables,
        latent: Latent,
        rounded: Latent,
        levels: Levels,
        steps: Planes,
        layers: int,
        reference: Planes | None = None,
        ledger: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """latent: what is rounded. rounded: the same with the quality and region that a receiver is told of it; its
        values are replaced. levels, steps, reference: of each position, its quality, the quantizer steps per unit, and
        what is referred to, in 1/8 steps. ledger: see `Coder.try_level`."""
        self.tables = tables
        self._latent, self._rounded, self._levels, self._steps = latent, rounded, levels, steps
        self._reference, self._ledger = reference, ledger
        self._entries: list[list[Symbols]] = [[] for _ in range(layers)]
        self._walk = model.walk(levels, layers)

    @property
    def entries(self) -> list[list[Symbols]]:
        """int32 table entries (see `Tables.entry`) by layer and pass."""
        self._walk.through(len(self._entries), self._fill)
        return self._entries

    @cached_property
    def layer_bits(self) -> list[float]:
        """The ideal code length of the entries, by layer."""
        return [sum(map(self._bits, passes)) for passes in self.entries]

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
        self._walk.through(layers, self._fill)
        bits = sum(self._bits(entries) for passes in self._entries[:layers] for entries in passes)
        for index, sweep in enumerate(PASSES):
            if layers <= sweep.group < len(self._entries):
                off = self._wanted(index)
                if self._reference is not None:
                    off -= self._of_pass(index, self._reference) / np.float32(MEAN_GRID)
                bits += _LIKELY_BITS * np.count_nonzero(np.abs(off) > _LIKELY_STEPS)
        return self._size_bytes(bits)

    @cached_property
    def decoded(self) -> Latent:
        """The latent that a receiver decodes."""
        return replace(self._rounded, values=in_units(self._walk.values(self._fill), self._steps))

    def code(self) -> list[bytes]:
        """The bytes of each layer."""
        return self.code_layers(len(self.entries))

    def code_layers(self, layers: int) -> list[bytes]:
        """The bytes of the first layers, as they would be if there were no others."""
        return rans.encode(self.entries[:layers], self.tables, rans.lanes_for(sum(self.layer_bits[:layers])))

    def _fill(self, index: int, mean: Planes, scale: Planes) -> Planes:
        """Round a pass: see ContextModel.walk."""
        tables, sweep = self.tables, PASSES[index]
        coded, scales = coded_of(scale, tables.first, sweep, self._reference is not None)
        expected = mean.take(coded)
        off = np.rint(self._wanted(index).take(coded) - expected / MEAN_GRID)
        symbols = tables.clipped(off.clip(-MAX_RADIUS, MAX_RADIUS).astype(np.int32), scales)
        entry = tables.entry(symbols, scales)
        self._entries[sweep.group].append(entry)
        if self._ledger is not None:
            spent = np.zeros(scale.size)
            spent[coded] = tables.bits[entry]
            height, width = self._levels.shape
            self._ledger[positions(index, height, width)] += spent.reshape(sweep.stop - sweep.start, -1).sum(0)
        mean[coded] = expected + tables.eighths.take(entry)
        return mean

    def _wanted(self, index: int) -> Planes:
        """The values of a pass in quantizer steps, float32 [n, positions]."""
        return self._latent.by_pass[index] * self._of_pass(index, self._steps)

    def _of_pass(self, index: int, planes: Planes) -> Planes:
        """What planes [96, h, w], or [96, 1, 1], hold of a pass: [n, positions], or [n, 1]."""
        if planes.shape[1:] == (1, 1):
            return planes[PASSES[index].start : PASSES[index].stop, :, 0]
        height, width = self._levels.shape
        return PASSES[index].read(whole(planes))[:, within(index, height, width)]

    def _bits(self, entries: Symbols) -> float:
        return float(self.tables.bits.take(entries).sum())

    def _size_bytes(self, bits: float) -> float:
        layers = len(self._entries)
        framing = HEADER_BYTES + 2 * (layers - 1) + layers
        return framing + (1.0035 * bits + rans.LANE_BITS * rans.lanes_for(bits) + 16) / 8


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
        height, width = latent.values.shape[1:]
        levels = levels_of(height, width, level, region)
        steps = by_position(self._gain, levels)
        model, known = self._context(reference, steps)
        rounded = replace(latent, level=level, region=region)
        return Trial(model, self._tables(reference), latent, rounded, levels, steps, layers, known, ledger)

    def decode(self, packet: Packet, reference: Latent | None) -> Latent:
        """The latent that a packet's symbols describe. Errors as of `Codec.unpack`."""
        height, width = -(-packet.height // STRIDE), -(-packet.width // STRIDE)
        reference = self._needed(packet, reference, (CHANNELS, height, width))
        tables = self._tables(reference)
        first, inter = tables.first, reference is not None
        decoder = rans.Decoder(packet.chunks, tables)

        def fill(index: int, mean: Planes, scale: Planes) -> Planes:
            coded, scales = coded_of(scale, first, PASSES[index], inter)
            mean[coded] += tables.eighths.take(decoder.read(scales))
            return mean

        levels = levels_of(height, width, packet.q, packet.side_info.region)
        steps = by_position(self._gain, levels)
        values = self._context(reference, steps)[0].walk(levels, len(packet.chunks)).values(fill)
        if len(packet.chunks) == packet.total_layers:
            decoder.finish()
        return Latent(in_units(values, steps), packet.width, packet.height, packet.q, packet.side_info.region)

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

    def _context(self, reference: Latent | None, steps: Planes) -> tuple[ContextModel, Planes | None]:
        """The context model, and what it knows of the reference: its values in 1/8 steps."""
        if reference is None:
            return ContextModel([self._open(context_graph(index)) for index in range(len(PASSES))]), None
        runners = [self._open(reference_graph(index)) for index in range(len(PASSES))]
        known = in_steps(reference, steps)
        return ContextModel(runners, known, reference.level or 0), known


def in_units(values: Planes, steps: Planes) -> Planes:
    """Values in 1/8 steps as the encoder would have them: single operations on float32, the same on every machine."""
    return values / np.float32(MEAN_GRID) / steps


def coded_of(scale: Planes, first: int, sweep: Pass, inter: bool) -> tuple[Indices, Indices]:
    """Indices of the symbols of a pass that are coded, and their scale indices.

    Coded are those whose table is `first` or a later one: earlier tables hold the symbol 0 alone. In the base layer of
    an inter frame all symbols are coded, with table `first` at least: where no change was expected one may still come,
    and the context model of the other layers learns of it from the base layer.
    """
    if inter and sweep.group == 0:
        scale = np.maximum(scale, first)
    coded = np.flatnonzero(scale >= first)
    return coded, scale.take(coded).astype(np.int64)
