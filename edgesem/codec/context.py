"""The context model: predicts each symbol from those decoded before it, in integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_runner import Arrays, GraphRunner, output_of
from edgesem.codec.compiled_context import CompiledKnown, CompiledNetworks
from edgesem.codec.latent import LEVELS, Levels
from edgesem.codec.reference import in_units
from edgesem.codec.rounding import Rounder
from edgesem.entropy import kernel
from edgesem.entropy.schedule import (
    CHANNELS,
    COARSE_LIMIT,
    EXACT,
    GROUPS,
    PASSES,
    VALUE_LIMIT,
    CodedPositions,
    Pass,
    Planes,
    whole,
    within,
)
from edgesem.entropy.tables import SCALES
from edgesem.errors import BundleError
from edgesem.packet.copy_map import Mask

Fill = Callable[[int, Planes, Planes], Planes]
Networks = Sequence[GraphRunner] | CompiledNetworks
"""What runs the network of each pass."""


class Known(Protocol):
    """All that was decoded so far in a walk, and what the networks expect after that."""

    def expect(self, index: int) -> tuple[Planes, Planes]:
        """Means and scales of pass `index`, float32 [n, positions] each, at the positions that are not copied."""
        ...

    def add(self, index: int, decided: Planes) -> None:
        """Take the values of a pass, [n, positions], as known from now on."""
        ...


class ContextModel:
    """Walks the schedule, asking before each pass the integer network of that pass what to expect.

    The networks run in the compiled kernel (edgesem.codec.compiled_context), or in ONNX Runtime, with the same results.
    """

    def __init__(
        self,
        networks: Networks,
        reference: Planes | None = None,
        reference_levels: Levels | None = None,
    ) -> None:
        """`reference`: float32 [96, height, width], in 1/8 steps of the present quality, and its levels."""
        self._networks, self._reference, self._reference_levels = networks, reference, reference_levels

    def walk(self, levels: Levels, layers: int, positions: CodedPositions | None = None) -> Walk:
        """A walk at `levels` [height, width], not begun yet; groups from `layers` on did not arrive.

        positions: those that are not copied from the reference; None: all.
        """
        positions = CodedPositions(levels.shape, None) if positions is None else positions
        known: Known
        if isinstance(self._networks, CompiledNetworks):
            known = CompiledKnown(self._networks, levels, self._reference, self._reference_levels, positions)
        else:
            known = RunnersKnown(self._networks, levels, self._reference, self._reference_levels, positions.copied)
        return Walk(known, layers, positions, self._reference)


class Walk:
    """One walk over the schedule, which goes no further than it is asked to.

    `fill(pass_index, mean, scale)`, float32 [n] each, gives the values of a pass, whole steps from its means, at the
    positions that are not copied; groups that did not arrive become their means. No network runs for a pass whose
    positions are all copied. Raises BundleError, on the way, for networks that give anything but means below 2^24 and
    scales of 0 to 63, as many as the pass has symbols.
    """

    def __init__(self, known: Known, layers: int, positions: CodedPositions, reference: Planes | None) -> None:
        self._known, self._layers, self._positions, self._reference = known, layers, positions, reference
        self._decided: list[Planes] = []

    def through(self, groups: int, fill: Fill) -> None:
        """Go on until the first `groups` groups are decoded."""
        for index, sweep in list(enumerate(PASSES))[len(self._decided) :]:
            if sweep.group >= groups:
                break
            self._decided.append(self._pass(index, fill if sweep.group < self._layers else None))

    def _pass(self, index: int, fill: Fill | None) -> Planes:
        """What is decoded of a pass; without `fill` it did not arrive."""
        known = self._known
        if isinstance(known, CompiledKnown) and isinstance(fill, Rounder) and fill.ledger is None and kernel.load():
            decided, entries = known.decide(index, fill.wanted(index), fill.tables, fill.least(index))
            fill.took(index, entries)
            return decided
        decided, scale = known.expect(index)
        if fill is not None:
            decided = fill(index, decided.ravel(), scale.ravel()).reshape(decided.shape)
        np.clip(decided, -VALUE_LIMIT, VALUE_LIMIT, out=decided)
        known.add(index, decided)
        return decided

    def values(self, fill: Fill) -> Planes:
        """Decoded values, float32 [96, height, width], integers in 1/8 steps, at the end of the walk."""
        self.through(len(GROUPS), fill)
        shape, copied = self._positions.shape, self._positions.copied
        planes = np.empty((CHANNELS, *shape), np.float32)
        if copied is not None:
            planes[:] = self._reference
        for index, (sweep, decided) in enumerate(zip(PASSES, self._decided, strict=True)):
            if copied is None and isinstance(within(index, *shape), slice):
                sweep.write(planes, decided)
            else:
                planes.reshape(CHANNELS, -1)[sweep.start : sweep.stop, self._positions.of(index)] = decided
        return planes

    def units(self, fill: Fill, steps: Planes, copies: Planes) -> Planes:
        """The same in units of the encoder, where a unit has so many `steps`, [96, height, width] or [96, 1, 1].

        copies [96, height, width]: the values of positions that are copied.
        """
        loops, copied = kernel.load(), self._positions.copied
        if loops is None:
            found = in_units(self.values(fill), steps)
            return found if copied is None else np.where(copied, copies, found)
        self.through(len(GROUPS), fill)
        shape = CHANNELS, *self._positions.shape
        planes = np.empty(shape, np.float32) if copied is None else np.array(copies, np.float32, order="C")
        flat, flat_steps = (one.reshape(CHANNELS, -1) for one in (planes, steps))
        for index, (sweep, decided) in enumerate(zip(PASSES, self._decided, strict=True)):
            own = np.s_[sweep.start : sweep.stop]
            in_rows = np.ascontiguousarray(decided)  # numpy gives a choice of columns by columns
            loops.in_units(in_rows, self._positions.of(index), flat_steps[own], flat[own])
        return planes


class RunnersKnown:
    """`Known`, by the graphs of a bundle.

    A graph sees planes of whole periods of the schedule (`PERIOD`), zero beyond the picture and where nothing is
    known yet, float32 [1,n,h,w] each:

        values     the level (0..255), 255 less that, and the pass's `seen` channels in 1/8 steps: passes of group 0
        coarse     the same with values as `coarse` makes them: all other passes
        own, reference_level    with a reference: what it has of the pass's channels, and the level that it had
        change     what is known of the values less the reference: passes of group 0, but the first
        moved      the size of that, made coarse, of all groups before: all other passes

    It gives `mean` (integers in 1/8 steps) and `scale` (0..63) of the channels and positions of its pass alone, each
    [1,n,a,b] with the positions row by row. All are integers in float32, below 2^24 in every sum, so each machine
    computes the same.
    """

    def __init__(
        self,
        runners: Sequence[GraphRunner],
        levels: Levels,
        reference: Planes | None,
        reference_levels: Levels | None,
        copied: Mask | None,
    ) -> None:
        level = whole(np.stack([levels, LEVELS - levels]))
        shape = level.shape[1:]
        self._runners, self._shape = runners, levels.shape
        self._positions = level[0].size
        self._fine, self._coarse = (np.zeros((2 + count, *shape), np.float32) for count in (GROUPS[0], CHANNELS))
        self._fine[:2] = self._coarse[:2] = level
        self._reference = None if reference is None else whole(reference)
        self._coded = None if copied is None else whole(~copied[None])[0] > 0
        if reference is not None and reference_levels is not None:
            self._reference_level = whole(reference_levels[None])
            self._change, self._moved = (np.zeros((count, *shape), np.float32) for count in (GROUPS[0], CHANNELS))

    def expect(self, index: int) -> tuple[Planes, Planes]:
        """See `Known.expect`."""
        sweep, coded = PASSES[index], self._coded_of(index)
        if not isinstance(coded, slice) and not coded.any():
            nothing = np.empty((sweep.stop - sweep.start, 0), np.float32)
            return nothing, nothing
        mean, scale = _expected(self._runners[index].run(self._feed(sweep)), sweep, self._positions)
        return mean[:, coded], scale[:, coded]

    def add(self, index: int, decided: Planes) -> None:
        """See `Known.add`."""
        if index + 1 == len(PASSES):
            return
        sweep, coded = PASSES[index], self._coded_of(index)
        own = None if self._reference is None else sweep.read(self._reference)
        if not isinstance(coded, slice):
            all_of_it = np.zeros((len(decided), coded.size), np.float32) if own is None else own.copy()
            all_of_it[:, coded] = decided
            decided = all_of_it
        if sweep.group == 0:
            sweep.write(self._fine[2:], decided)
        sweep.write(self._coarse[2:], coarse(decided))
        if own is not None and sweep.stop < CHANNELS:
            change = np.clip(decided - own, -VALUE_LIMIT, VALUE_LIMIT)
            if sweep.group == 0:
                sweep.write(self._change, change)
            sweep.write(self._moved, coarse(np.abs(change)))

    def _coded_of(self, index: int) -> npt.NDArray[np.bool_] | slice:
        """Which of the positions that a pass has in whole periods are coded."""
        if self._coded is None:
            return within(index, *self._shape)
        coded: npt.NDArray[np.bool_] = self._coded[PASSES[index].mask(*self._coded.shape)]
        return coded

    def _feed(self, sweep: Pass) -> dict[str, Planes]:
        """The inputs of a pass's network."""
        fine = sweep.group == 0
        feed = {"values" if fine else "coarse": (self._fine if fine else self._coarse)[None, : 2 + sweep.seen]}
        if self._reference is not None:
            feed |= {"own": self._reference[None, sweep.start : sweep.stop]}
            feed |= {"reference_level": self._reference_level[None]}
            if not fine:
                feed["moved"] = self._moved[None, : sweep.start]
            elif sweep.seen:
                feed["change"] = self._change[None]
        return feed


def _expected(found: Arrays, sweep: Pass, positions: int) -> tuple[Planes, Planes]:
    """Means and scales of a pass over so many positions, [n, those of the pass] each, as its network gave them."""
    count = positions // sweep.stride**2 * len(sweep.phases)
    shape = (sweep.stop - sweep.start, count)
    mean, scale = (output_of(found, name, size=shape[0] * count).reshape(shape) for name in ("mean", "scale"))
    if not (mean.min() >= -EXACT and mean.max() <= EXACT and scale.min() >= 0 and scale.max() < SCALES):
        raise BundleError(
            f"the context model gives means or scales (0 to {SCALES - 1}) that cannot be: export it again"
        )
    return mean, scale


def coarse(values: Planes) -> Planes:
    """Values in 1/8 steps as passes after those of group 0 see them: in 1/4 steps, and not beyond COARSE_LIMIT."""
    small: Planes = np.clip(np.floor(values * np.float32(0.5)), -COARSE_LIMIT, COARSE_LIMIT)
    return small
