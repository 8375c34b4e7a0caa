"""Copying: which positions of an inter frame stay as the reference has them.

Two reasons, each enough. Nothing has changed: the encoder's latent is, but for noise, the one that the reference was
coded from, at a quality as fine. Or coding would not pay: it would lower the squared error, in quantizer steps, by less
than its bits are worth. Borders between copied and coded positions cost too, as the map of copies must say where they
are (Potts' model, by iterated conditional modes: J. Besag, "On the statistical analysis of dirty pictures", 1986).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.codec.latent import LEVELS, Latent, Levels
from edgesem.entropy.schedule import Planes
from edgesem.packet import copy_map
from edgesem.packet.copy_map import Mask

LEFT = 0.1
"""Squared steps that a value is off after it was coded, and values that are off by less gain nothing; measured."""
SYMBOL_STEPS, SYMBOL_BITS, POSITION_BITS = 0.5, 3.4, 0.01
"""A value that is off by so many steps costs so many bits, and a position so many more for each level; measured."""
WORTH = 0.05
"""Squared steps that a bit must save; measured at equal quality."""
CHANGE = 0.1
"""Squared steps by which a position changes, beyond noise, before it counts as changed."""
BORDER_BITS = 6.0
"""What the map costs for each side on which a position differs from its neighbour in being copied."""
MAP_SHARE = 0.4
"""Bits of a map over those that it saves, at the most."""
FINER = 8
"""Quality levels by which a reference may be coarser than what would be coded now."""
NOISE_TIMES = 12.0
"""A difference whose square is below so many variances of the sensor's noise is taken for noise."""
_SWEEPS = 3
REFINED_TIMES = 1.5  # what coded positions really cost among copied ones, over what is said above; measured
_STILLEST = 0.25  # share of positions that tell the noise: those that have changed least
_NEW_SHARE = 0.2  # of the latest frame in the estimate of the noise
_MOST_TIMES = 3.0  # variance of a channel's noise over that of the median one: more is a change of light
_MOST_GREY = 4.0  # standard deviation of the sensor's noise that is believed, in grey levels of 255
_NOISE_GAIN = 7.0  # standard deviation of the median channel over that of the pixels; measured

Values = npt.NDArray[np.float32]


class Copies(NamedTuple):
    """The positions that a frame takes from its reference, bool [h, w], and the same as a packet has it."""

    mask: Mask
    data: bytes


class Copying:
    """Decisions of one stream: they learn the noise of its sensor. Not thread-safe.

    `look` takes the latent of each frame, in order, before it is packed.
    """

    def __init__(self) -> None:
        self._before: Latent | None = None
        self._noise = np.zeros((1, 1, 1), np.float32)  # variance of each channel, once two frames were seen
        self._known = False

    def look(self, latent: Latent) -> None:
        """Learn from a frame's latent, straight from the encoder, how much the sensor's noise changes it."""
        before, self._before = self._before, latent
        if before is None or before is latent or before.values.shape != latent.values.shape:
            return
        change = np.square(latent.values - before.values).reshape(len(latent.values), -1)
        total = change.sum(0)
        still = total <= np.quantile(total, _STILLEST)
        noise = change[:, still].mean(1)[:, None, None] / 2
        usual = min(float(np.median(noise)), (_NOISE_GAIN * _MOST_GREY / 255) ** 2)
        noise = np.minimum(noise, np.float32(_MOST_TIMES * usual))
        self._noise = self._noise + np.float32(_NEW_SHARE) * (noise - self._noise) if self._known else noise
        self._known = True

    def against(self, latent: Latent, reference: Latent, room_bytes: int) -> Differences:
        """How a frame differs from what it refers to, which must be of the same size; a map has so much room."""
        origin = reference.values if reference.origin is None else reference.origin
        change = np.square(latent.values - origin) - np.float32(NOISE_TIMES) * self._noise
        error = np.square(latent.values - reference.values) - 2 * self._noise
        return Differences(error, np.maximum(change, 0, out=change), reference.levels + FINER, room_bytes)


class Differences:
    """What coding a frame's positions anew would save, and cost, at any quality."""

    def __init__(self, error: Values, change: Values, had: Levels, room_bytes: int) -> None:
        """error, change: squared differences to the reference, and to what it was coded from, less noise, [96, h, w],
        in the encoder's units. had: up to which level a position that has not changed need not be coded, [h, w]."""
        self._error, self._change, self._had = error, change, had
        self._room_bytes = min(room_bytes, copy_map.MAX_BYTES)

    def copies(self, steps: Planes, levels: Levels, refined_bytes: float = np.inf) -> Copies | None:
        """What is copied, given quantizer steps per unit, [96, h, w] or [96, 1, 1], and levels, [h, w].

        Of what has not changed and would only become finer, as much is coded as takes about `refined_bytes`: the
        coarsest first, from above.

        The map has fewer borders than it might, until it takes far fewer bits than coding there would, and fits. None
        if nothing is copied, or no map is short enough.
        """
        saved, bits = self._worth(steps, levels, np.s_[:], 8 * refined_bytes)
        border = WORTH * BORDER_BITS
        while border < 1e6:
            mask = _smooth(saved, border)
            if not mask.any():
                return None
            data = copy_map.to_bytes(mask)
            if len(data) <= min(self._room_bytes, 1 + MAP_SHARE * float(bits[mask].sum()) / 8):
                return Copies(mask, data)
            border *= 2
        return None

    @property
    def usual_level(self) -> int:
        """Up to which level most of the positions that have not changed need not be coded, 0..255."""
        return min(int(np.median(self._had)), LEVELS)

    def likely_bytes(self, gain: Values, level: int) -> float:
        """About what positions that are coded cost at a level, where `gain` [96] is its steps; from one in four."""
        part = np.s_[..., ::2, ::2]
        levels = np.full(self._had[part].shape, level, np.int32)
        saved, bits = self._worth(gain[:, None, None], levels, part, np.inf)
        return REFINED_TIMES * float(bits[saved > 0].sum()) / 8 * (self._had.size / levels.size)

    def _worth(self, steps: Planes, levels: Levels, part: Any, refined_bits: float) -> tuple[Values, Values]:
        """Squared steps that coding each position saves, less what its bits are worth, and these bits, [h, w] each."""
        scale = np.square(steps)
        off = self._error[part] * scale
        bits = np.float32(SYMBOL_BITS) * (off > np.float32(SYMBOL_STEPS**2)).sum(0, dtype=np.float32)
        bits += np.float32(POSITION_BITS) * levels
        off -= np.float32(LEFT)
        pays = np.maximum(off, 0, out=off).sum(0) - np.float32(WORTH) * bits
        off = self._change[part] * scale
        off -= np.float32(LEFT)
        news = np.maximum(off, 0, out=off).sum(0) - np.float32(CHANGE)
        changed = np.minimum(pays, news)
        if (coarse := (self._had[part] < levels) & (news <= 0) & (pays > 0)).any():
            order = np.argsort(self._had[part][coarse], kind="stable")  # whole rows: their map is short
            fits = np.empty(order.size, bool)
            fits[order] = REFINED_TIMES * np.cumsum(bits[coarse][order]) <= refined_bits
            changed[coarse] = np.where(fits, pays[coarse], changed[coarse])
        return changed, bits


def _smooth(saved: Values, border: float) -> Mask:
    """Copied positions, bool [h, w], where borders cost."""
    coded = saved > 0
    for _ in range(_SWEEPS):
        around = np.pad(np.where(coded, 1, -1), 1)
        beside = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        coded = saved + np.float32(border) * beside > 0
    return ~coded
