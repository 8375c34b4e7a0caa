"""The context model: predicts each symbol from those decoded before it, in integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_runner import Arrays, GraphRunner, output_of
from edgesem.codec.latent import LEVELS, Levels
from edgesem.entropy.schedule import CHANNELS, COARSE_LIMIT, GROUPS, PASSES, VALUE_LIMIT, Pass, Planes, whole, within
from edgesem.entropy.tables import SCALES
from edgesem.errors import BundleError
from edgesem.packet.copy_map import Mask

_EXACT = 1 << 24  # float32 holds all integers up to here

Fill = Callable[[int, Planes, Planes], Planes]


class ContextModel:
    """Walks the schedule, asking before each pass the integer network of that pass what to expect.

    A network sees planes of whole periods of the schedule (`PERIOD`), zero beyond the picture and where nothing is
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
        self, runners: Sequence[GraphRunner], reference: Planes | None = None, reference_levels: Levels | None = None
    ) -> None:
        """`reference`: float32 [96, height, width], in 1/8 steps of the present quality, and its levels."""
        self._runners, self._reference, self._reference_levels = runners, reference, reference_levels

    def walk(self, levels: Levels, layers: int, copied: Mask | None = None) -> Walk:
        """A walk at `levels` [height, width], not begun yet; groups from `layers` on did not arrive.

        copied: positions that stay as the reference has them, bool [height, width].
        """
        known = _Known(levels, self._reference, self._reference_levels)
        return Walk(self._runners, known, levels.shape, layers, copied)


class Walk:
    """One walk over the schedule, which goes no further than it is asked to.

    `fill(pass_index, mean, scale)`, float32 [n] each, gives the values of a pass, whole steps from its means; groups
    that did not arrive become their means, and copied positions the reference, whatever `fill` makes of them. No
    network runs for a pass whose positions are all copied: `fill` is then given scales of 0. Raises BundleError, on the
    way, for networks that give anything but means below 2^24 and scales of 0 to 63, as many as the pass has symbols.
    """

    def __init__(
        self,
        runners: Sequence[GraphRunner],
        known: _Known,
        shape: tuple[int, ...],
        layers: int,
        copied: Mask | None,
    ) -> None:
        self._left = list(enumerate(zip(PASSES, runners, strict=True)))[::-1]
        self._known, self._shape, self._layers = known, shape, layers
        self._copied = None if copied is None else whole(copied[None])[0] > 0

    def through(self, groups: int, fill: Fill) -> None:
        """Go on until the first `groups` groups are decoded."""
        height, width = self._shape
        while self._left and self._left[-1][1][0].group < groups:
            index, (sweep, runner) = self._left.pop()
            inside = within(index, height, width)
            copied = None if self._copied is None else self._copied[sweep.mask(*self._copied.shape)]
            if copied is not None and copied[inside].all():
                decided = self._known.reference_of(sweep)
                scale = np.zeros_like(decided)
            else:
                decided, scale = _expected(runner.run(self._known.feed(sweep)), sweep, self._known.positions)
            if sweep.group < self._layers:
                mean, scale = decided[:, inside], scale[:, inside]
                decided = _put(fill(index, mean.ravel(), scale.ravel()).reshape(mean.shape), decided, inside)
            decided = np.clip(decided, -VALUE_LIMIT, VALUE_LIMIT)
            if copied is not None:
                decided[:, copied] = self._known.reference_of(sweep)[:, copied]
            if not isinstance(inside, slice):
                decided[:, ~inside] = 0
            self._known.add(sweep, decided)

    def values(self, fill: Fill) -> Planes:
        """Decoded values, float32 [96, height, width], integers in 1/8 steps, at the end of the walk."""
        self.through(len(GROUPS), fill)
        return self._known.values()[:, : self._shape[0], : self._shape[1]]


def _expected(found: Arrays, sweep: Pass, positions: int) -> tuple[Planes, Planes]:
    """Means and scales of a pass over so many positions, [n, those of the pass] each, as its network gave them."""
    count = positions // sweep.stride**2 * len(sweep.phases)
    shape = (sweep.stop - sweep.start, count)
    mean, scale = (output_of(found, name, size=shape[0] * count).reshape(shape) for name in ("mean", "scale"))
    if not (mean.min() >= -_EXACT and mean.max() <= _EXACT and scale.min() >= 0 and scale.max() < SCALES):
        raise BundleError(
            f"the context model gives means or scales (0 to {SCALES - 1}) that cannot be: export it again"
        )
    return mean, scale


class _Known:
    """All values decoded so far in a walk, in the forms that the networks take: no form is made for none of them."""

    def __init__(self, levels: Levels, reference: Planes | None, reference_levels: Levels | None) -> None:
        level = whole(np.stack([levels, LEVELS - levels]))
        shape = level.shape[1:]
        self.positions = level[0].size
        self._fine, self._coarse = (np.zeros((2 + count, *shape), np.float32) for count in (GROUPS[0], CHANNELS))
        self._fine[:2] = self._coarse[:2] = level
        self._decided: list[tuple[Pass, Planes]] = []
        self._reference = None if reference is None else whole(reference)
        if reference is not None and reference_levels is not None:
            self._reference_level = whole(reference_levels[None])
            self._change, self._moved = (np.zeros((count, *shape), np.float32) for count in (GROUPS[0], CHANNELS))

    def values(self) -> Planes:
        """float32 [96, h, w]."""
        planes = np.empty_like(self._coarse[2:])
        for sweep, decided in self._decided:
            sweep.write(planes, decided)
        return planes

    def reference_of(self, sweep: Pass) -> Planes:
        """What the reference has of a pass, [n, positions]."""
        assert self._reference is not None
        return sweep.read(self._reference)

    def feed(self, sweep: Pass) -> dict[str, Planes]:
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

    def add(self, sweep: Pass, decided: Planes) -> None:
        """Take the values of a pass, [n, positions], as known from now on."""
        self._decided.append((sweep, decided))
        if sweep is PASSES[-1]:
            return
        if sweep.group == 0:
            sweep.write(self._fine[2:], decided)
        sweep.write(self._coarse[2:], coarse(decided))
        if self._reference is not None and sweep.stop < CHANNELS:
            change = np.clip(decided - sweep.read(self._reference), -VALUE_LIMIT, VALUE_LIMIT)
            if sweep.group == 0:
                sweep.write(self._change, change)
            sweep.write(self._moved, coarse(np.abs(change)))


def coarse(values: Planes) -> Planes:
    """Values in 1/8 steps as passes after those of group 0 see them: in 1/4 steps, and not beyond COARSE_LIMIT."""
    small: Planes = np.clip(np.floor(values * np.float32(0.5)), -COARSE_LIMIT, COARSE_LIMIT)
    return small


def _put(part: Planes, planes: Planes, inside: npt.NDArray[np.bool_] | slice) -> Planes:
    """`planes` [n, positions] with `part` where they lie in the picture."""
    if isinstance(inside, slice):
        return part
    planes = planes.copy()
    planes[:, inside] = part
    return planes
