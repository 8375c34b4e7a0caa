"""Context networks in the compiled kernel: at the positions that are coded only, and without what is known to be zero.

What is known of a position stands in one row of int16, and the rows stand one behind the other, with a border of zeros
around the picture. A layer is a list of spans of rows, and the weights for them. Channels that no pass before has
decoded at a tap are left out of it: they would be zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_file import read_graph
from edgesem.codec.latent import LEVELS, Levels
from edgesem.codec.network_form import Form, Integers, Layer, OtherForm, form_of
from edgesem.codec.rounding import Wanted
from edgesem.entropy.kernel import Kernel, load
from edgesem.entropy.rans import Symbols
from edgesem.entropy.schedule import (
    CHANNELS,
    GROUPS,
    PASSES,
    PERIOD,
    CodedPositions,
    Pass,
    Planes,
    positions,
)
from edgesem.entropy.tables import Tables
from edgesem.errors import BundleError

_BORDER = 4  # positions; the widest layer reaches so far
# Where things begin in a row. Of keyframes it has the first three
_LEVEL, _FINE, _COARSE = 0, 2, 2 + GROUPS[0]  # the level and 255 less that; values of group 0; all of them, made coarse
_KEY_ROW = _COARSE + CHANNELS
_REFERENCE_LEVEL = _KEY_ROW  # and a zero, so that all lie evenly
_OWN = _REFERENCE_LEVEL + 2  # the reference's values
_OWN_COARSE = _OWN + CHANNELS
_CHANGE = _OWN_COARSE + CHANNELS  # of group 0, and then its size
_MOVED = _CHANGE + 2 * GROUPS[0]  # the size of the change, made coarse, of all groups but the last
_ROW = _MOVED + CHANNELS - GROUPS[-1]
_NOWHERE = -1, -1, -1, -1, 0, -1  # as of the last pass, which none comes after
_OUTPUTS = 16  # that the kernel computes at a time


@dataclass(frozen=True)
class _Inputs:
    """Channels of a layer that lie one behind the other in a row."""

    first: int
    """Of the layer's channels."""
    count: int
    start: int
    """Where they begin in a row."""
    of_group: bool = False
    """They are of the pass's own group: known at some taps only."""


@dataclass(frozen=True)
class CompiledPass:
    """The network of a pass as the kernel takes it: see context.c."""

    plan: npt.NDArray[np.int32]
    taps: npt.NDArray[np.int32]
    """[n, 3]: places in the plan where a span begins, and by how many rows and columns that lies off the position."""
    weights: npt.NDArray[np.int16]
    rest: npt.NDArray[np.int32]
    """Biases and shifts."""
    plans: dict[tuple[int, int], npt.NDArray[np.int32]] = field(default_factory=dict)
    """Those that `plan_for` has made."""

    def plan_for(self, width: int, length: int) -> npt.NDArray[np.int32]:
        """The plan for pictures of so many positions in a row, each with so many numbers."""
        plan = self.plans.get((width, length))
        if plan is None:
            plan = self.plan.copy()
            plan[self.taps[:, 0]] += (self.taps[:, 1] * (width + 2 * _BORDER) + self.taps[:, 2]) * length
            self.plans[width, length] = plan
        return plan


def compile_pass(form: Form, index: int) -> CompiledPass:
    """The network of pass `index`, ready for the kernel."""
    sweep = PASSES[index]
    known, beside = _inputs(sweep)
    hidden = [[_Inputs(0, layer.weight.shape[1], 0)] for layer in (form.second, form.third)]
    plan: list[int] = []
    taps, weights, rest = [], [], []
    for layer, inputs in (
        (form.first, known),
        (form.first_beside, beside),
        (form.second, hidden[0]),
        (form.third, hidden[1]),
        (form.direct, known),
        (form.direct_beside, beside),
    ):
        spans = [] if layer is None else _spans(layer, inputs, sweep)
        plan += [0 if layer is None else -(-layer.bias.size // _OUTPUTS), len(spans)]
        for row, column, start, part in spans:
            taps.append((len(plan), row, column))
            plan += [start, part.shape[1]]
        if layer is not None:
            weights.append(np.concatenate([part for *_, part in spans], 1).ravel())
            rest += [_whole(layer.bias), _whole(layer.shift)]
    arrays = np.array(plan), np.array(taps), np.concatenate(weights), np.concatenate(rest)
    types = np.int32, np.int32, np.int16, np.int32
    own_plan, own_taps, own_weights, own_rest = (
        array.astype(dtype) for array, dtype in zip(arrays, types, strict=True)
    )
    return CompiledPass(own_plan, own_taps, own_weights, own_rest)


def _inputs(sweep: Pass) -> tuple[list[_Inputs], list[_Inputs]]:
    """What the layers of a pass see, and those beside them."""
    own, seen, start, fine = sweep.stop - sweep.start, sweep.seen, sweep.start, sweep.group == 0
    values = _FINE if fine else _COARSE
    known = [_Inputs(0, 2, _LEVEL), _Inputs(2, start, values), _Inputs(2 + start, seen - start, values + start, True)]
    level = _Inputs(0, 1, _REFERENCE_LEVEL)
    if not fine:
        return known, [level, _Inputs(1, own, _OWN_COARSE + start), _Inputs(1 + own, start, _MOVED)]
    change, size = (_Inputs(1 + own + n * seen, seen, _CHANGE + n * GROUPS[0], True) for n in range(2))
    return known, [level, _Inputs(1, own, _OWN), change, size]


def _spans(layer: Layer, inputs: list[_Inputs], sweep: Pass) -> list[tuple[int, int, int, Integers]]:
    """For each tap, and channels of it: its rows and columns off the position, where they begin in a row, and their
    weights [sixteens of outputs, pairs, 16, 2]."""
    spans = []
    middle = layer.weight.shape[2] // 2
    for i, j in np.ndindex(layer.weight.shape[2:]):
        row, column = (i - middle) * layer.dilation, (j - middle) * layer.dilation
        for part in inputs:
            if part.count and not (part.of_group and not _known_at(sweep, row, column)):
                weight = _whole(layer.weight[:, part.first : part.first + part.count, i, j])
                weight = np.pad(weight, ((0, 0), (0, part.count % 2)))
                pairs = weight.reshape(-1, _OUTPUTS, weight.shape[1] // 2, 2).transpose(0, 2, 1, 3)
                spans.append((row, column, part.start, pairs))
    return spans


def _known_at(sweep: Pass, row: int, column: int) -> bool:
    """Whether passes before have decoded channels of the same group, so many rows and columns off the position."""
    before = [one for one in PASSES[: PASSES.index(sweep)] if one.group == sweep.group]
    known = np.any([one.mask(PERIOD, PERIOD) for one in before], axis=0)
    return any(known[(y + row) % PERIOD, (x + column) % PERIOD] for y, x in sweep.phases)


def _whole(numbers: Integers) -> Integers:
    """With zeros up to whole sixteens of outputs."""
    return np.pad(numbers, [(0, -len(numbers) % _OUTPUTS), *[(0, 0)] * (numbers.ndim - 1)])


@dataclass(frozen=True)
class CompiledNetworks:
    """The networks of all passes, and what runs them. Thread-safe."""

    kernel: Kernel
    passes: Sequence[CompiledPass]


def compile_networks(graphs: Sequence[Path]) -> CompiledNetworks | None:
    """The networks in files, one a pass; None where there is no kernel, or a graph has a form that is not known."""
    kernel = load()
    if kernel is None:
        return None
    try:
        return CompiledNetworks(
            kernel, [compile_pass(form_of(read_graph(path), PASSES[index]), index) for index, path in enumerate(graphs)]
        )
    except (OtherForm, BundleError):
        return None


class CompiledKnown:
    """What is known in a walk, for the kernel: see `edgesem.codec.context.Known`."""

    def __init__(
        self,
        networks: CompiledNetworks,
        levels: Levels,
        reference: Planes | None,
        reference_levels: Levels | None,
        positions: CodedPositions,
    ) -> None:
        self._kernel, self._passes, self._positions = networks.kernel, networks.passes, positions
        self._coded: dict[Hashable, npt.NDArray[np.int32]] = {}  # places by phases, which several passes share
        self._inter, self._length = reference is not None, _KEY_ROW if reference is None else _ROW
        height, self._width = self._shape = levels.shape
        self._rows = np.zeros((height + 2 * _BORDER, self._width + 2 * _BORDER, self._length), np.int16)
        inside = self._rows[_BORDER:-_BORDER, _BORDER:-_BORDER]
        inside[..., _LEVEL], inside[..., _LEVEL + 1] = levels, LEVELS - levels
        if reference is not None:
            inside[..., _REFERENCE_LEVEL] = reference_levels
            # No network sees a position before its pass, so those that are copied may be known from the start
            known = np.zeros(levels.size, bool) if positions.copied is None else positions.copied.ravel()
            where = _OWN, _OWN_COARSE, _FINE, GROUPS[0], _COARSE
            everywhere = _everywhere(*self._shape, self._length)
            self._kernel.fill(self._rows, everywhere, reference.reshape(CHANNELS, -1), known, where)

    def expect(self, index: int) -> tuple[Planes, Planes]:
        """See `Known.expect`."""
        sweep = PASSES[index]
        n, own = sweep.stop - sweep.start, _OWN + sweep.start if self._inter else -1
        return self._kernel.expect(self._rows, self._places(index), self._network(index), n, own)

    def add(self, index: int, decided: Planes) -> None:
        """See `Known.add`."""
        if index + 1 < len(PASSES):
            self._kernel.note(self._rows, self._places(index), decided, self._where(index))

    def decide(self, index: int, wanted: Wanted, tables: Tables, least: int) -> tuple[Planes, Symbols]:
        """What is decoded of pass `index`, and the symbols, where values are wanted and no table below `least` is used:
        `expect`, `edgesem.codec.rounding.rounded` and `add` in one."""
        own = _OWN + PASSES[index].start if self._inter else -1
        where = self._where(index) if index + 1 < len(PASSES) else _NOWHERE
        places, network = self._places(index), self._network(index)
        return self._kernel.decide(self._rows, places, network, own, wanted, tables, least, where)

    def _network(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int16], npt.NDArray[np.int32]]:
        """The network of a pass as the kernel takes it."""
        network = self._passes[index]
        return network.plan_for(self._width, self._length), network.weights, network.rest

    def _where(self, index: int) -> tuple[int, ...]:
        """Where in rows the values of a pass are noted."""
        sweep = PASSES[index]
        fine = _FINE + sweep.start if sweep.group == 0 else -1
        own, change, moved = -1, -1, -1
        if self._inter and sweep.stop < CHANNELS:
            own, moved = _OWN + sweep.start, _MOVED + sweep.start
            change = _CHANGE if sweep.group == 0 else -1
        return fine, _COARSE + sweep.start, own, change, GROUPS[0], moved

    def _places(self, index: int) -> npt.NDArray[np.int32]:
        """int32 [n]: where the rows of the positions of a pass begin that are coded."""
        if self._positions.copied is None:
            return _all_places(index, *self._shape, self._length)
        if (phases := PASSES[index].phases) not in self._coded:
            self._coded[phases] = _places(self._positions.of(index), self._width, self._length)
        return self._coded[phases]


@lru_cache(maxsize=256)
def _all_places(index: int, height: int, width: int, length: int) -> npt.NDArray[np.int32]:
    return _places(positions(index, height, width), width, length)


@lru_cache(maxsize=16)
def _everywhere(height: int, width: int, length: int) -> npt.NDArray[np.int32]:
    return _places(np.arange(height * width), width, length)


def _places(positions: npt.NDArray[np.int64], width: int, length: int) -> npt.NDArray[np.int32]:
    row, column = np.divmod(positions, width)
    places = ((row + _BORDER) * (width + 2 * _BORDER) + column + _BORDER) * length
    return np.asarray(places, np.int32)
