"""Copying: which positions of an inter frame stay as the reference has them.

Two reasons, each enough. Nothing has changed: the encoder's latent is, but for noise, the one that the reference was
coded from, at a quality as fine. Or coding would not pay: it would lower the squared error, in quantizer steps, by less
than its bits are worth. Borders between copied and coded positions cost too, as the map of copies must say where they
are (Potts' model, by iterated conditional modes: J. Besag, "On the statistical analysis of dirty pictures", 1986).
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.codec.latent import LEVELS, Latent, Levels
from edgesem.codec.motion import find, squares_off
from edgesem.entropy import kernel
from edgesem.entropy.schedule import CHANNELS, Planes
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
NOISE_LEFT, NOISE_LEFT_STILL = 0.5, 2.0
"""What noise leaves of a position's change all the same, in variances of its channels, summed: no change up to there.
The second where nothing moves in all of the picture: then what is left is noise, which is more in smooth parts than the
estimate, and less is lost by it. Without them fine quantizer steps code noise; measured on noisy still scenes."""
_SWEEPS = 3
REFINED_TIMES = 1.5  # what coded positions really cost among copied ones, over what is said above; measured
_STILLEST = 0.25  # share of positions that tell the noise: those that have changed least
_ALIKE, _ALL = 6.0, 0.99  # nothing moves if such a share has changed by at most so many times what the stillest have
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
        self._still = False  # whether nothing but noise was new in the latest frame

    @property
    def noise(self) -> Values | None:
        """Variance of the sensor's noise in each channel, [96, 1, 1], in the encoder's units; None: not known yet."""
        return self._noise if self._known else None

    def look(self, latent: Latent) -> None:
        """Learn from a frame's latent, straight from the encoder, how much the sensor's noise changes it."""
        before, self._before = self._before, latent
        self._still = False
        if before is None or before is latent or before.values.shape != latent.values.shape:
            return
        ours, theirs = (one.values.reshape(CHANNELS, -1) for one in (latent, before))
        total = squares_off(ours, theirs, np.ones(CHANNELS, np.float32), np.inf)
        if np.count_nonzero(total) < (1 - _STILLEST) * total.size:
            return  # not seen anew: `edgesem.codec.replenishment`
        still = total <= np.quantile(total, _STILLEST)
        noise = np.square(ours[:, still] - theirs[:, still]).mean(1)[:, None, None] / 2
        usual = float(np.median(noise))
        if usual > (_NOISE_GAIN * _MOST_GREY / 255) ** 2:
            return  # no sensor is so noisy: all of the picture has moved
        self._still = bool((total <= np.float32(_ALIKE) * total[still].mean()).mean() >= _ALL)
        noise = np.minimum(noise, np.float32(_MOST_TIMES * usual))
        self._noise = self._noise + np.float32(_NEW_SHARE) * (noise - self._noise) if self._known else noise
        self._known = True

    def motion(self, latent: Latent, reference: Latent, gain: Values) -> bytes:
        """Where the positions of a reference of the same size have gone, as a packet has it; empty: nowhere.

        gain [96]: quantizer steps per unit at the quality of the reference.
        """
        return find(latent, reference, gain)

    def against(self, latent: Latent, reference: Latent, room_bytes: int) -> Differences:
        """How a frame differs from what it refers to, which must be of the same size; a map has so much room."""
        origin = reference.values if reference.origin is None else reference.origin
        had, loops = reference.levels + FINER, kernel.load()
        if loops is not None:
            noise = np.broadcast_to(self._noise.ravel(), CHANNELS)
            error, change = loops.differ(latent.values, reference.values, origin, noise, NOISE_TIMES)
        else:
            change = np.square(latent.values - origin) - np.float32(NOISE_TIMES) * self._noise
            error = np.square(latent.values - reference.values) - 2 * self._noise
            np.maximum(change, 0, out=change)
        left = NOISE_LEFT_STILL if self._still else NOISE_LEFT
        return Differences(error, change, had, np.float32(left) * self._noise, room_bytes)


class Differences:
    """What coding a frame's positions anew would save, and cost, at any quality."""

    def __init__(self, error: Values, change: Values, had: Levels, left: Values, room_bytes: int) -> None:
        """error, change: squared differences to the reference, and to what it was coded from, less noise, [96, h, w],
        in the encoder's units. had: up to which level a position that has not changed need not be coded, [h, w].
        left: what noise leaves of a change, squared, of each channel, [96, 1, 1], or [1, 1, 1] for all channels."""
        self._error, self._change, self._had = error, change, had
        self._left = np.broadcast_to(left, (CHANNELS, 1, 1))
        self._room_bytes = min(room_bytes, copy_map.MAX_BYTES)

    def copies(self, steps: Planes, levels: Levels, refined_bytes: float = np.inf) -> Copies | None:
        """What is copied, given quantizer steps per unit, [96, h, w] or [96, 1, 1], and levels, [h, w].

        Of what has not changed and would only become finer, as much is coded as takes about `refined_bytes`: the
        coarsest first, from above.

        The map has fewer borders than it might, until it takes far fewer bits than coding there would, and fits. None
        if nothing is copied, or no map is short enough.
        """
        saved, bits = self._worth(steps, levels, 8 * refined_bytes)
        border, mask = WORTH * BORDER_BITS, np.empty((0, 0), bool)
        most = min(1e6, 2 * float(np.abs(saved).max()))  # costlier borders change nothing
        while border <= most or not mask.size:
            before, (mask, size_bytes) = mask, _smooth(saved, border)
            if not mask.any():
                return None
            if not np.array_equal(mask, before):
                longest = min(self._room_bytes, 1 + MAP_SHARE * float(bits[mask].sum()) / 8)
                if size_bytes <= longest:
                    return Copies(mask, copy_map.to_bytes(mask))
            border *= 2
        return None

    @property
    def usual_level(self) -> int:
        """Up to which level most of the positions that have not changed need not be coded, 0..255."""
        return min(int(np.median(self._had)), LEVELS)

    def likely_bytes(self, gain: Values, levels: Levels) -> list[float]:
        """About what positions that are coded cost at each of levels [k], where `gain` [k, 96] is its steps.

        One position in four is looked at.
        """
        error, change, had = self._sample
        scale, levels = np.square(gain[:, :, None]), levels[:, None]
        pays, bits = _pays(error, scale, levels)
        coded = (pays > 0) & ((had < levels) | (_news(change, scale, self._left[..., 0]) > 0))
        times = self._had.size / had.size
        return [REFINED_TIMES * float(b[c].sum()) / 8 * times for b, c in zip(bits, coded, strict=True)]

    @cached_property
    def _sample(self) -> tuple[Values, Values, Levels]:
        """Of one position in four: error, change, [96, n], and level that it had, [n]."""
        error, change = (one[:, ::2, ::2].reshape(len(one), -1) for one in (self._error, self._change))
        return error, change, self._had[::2, ::2].ravel()

    def _worth(self, steps: Planes, levels: Levels, refined_bits: float) -> tuple[Values, Values]:
        """Squared steps that coding each position saves, less what its bits are worth, and these bits, [h, w] each."""
        scale = np.square(steps)[None]
        (pays,), (bits,) = _pays(self._error, scale, levels)
        (news,) = _news(self._change, scale, self._left)
        changed = np.minimum(pays, news)
        if (coarse := (self._had < levels) & (news <= 0) & (pays > 0)).any():
            order = np.argsort(self._had[coarse], kind="stable")  # whole rows: their map is short
            fits = np.empty(order.size, bool)
            fits[order] = REFINED_TIMES * np.cumsum(bits[coarse][order]) <= refined_bits
            changed[coarse] = np.where(fits, pays[coarse], changed[coarse])
        return changed, bits


def _pays(error: Values, scale: Planes, levels: Levels) -> tuple[Values, Values]:
    """Squared steps that coding positions saves beyond what its bits are worth, and these bits: see `_excess`."""
    saved, symbols = _excess(error, scale)
    bits = np.float32(SYMBOL_BITS) * symbols + np.float32(POSITION_BITS) * np.float32(levels)
    return saved - np.float32(WORTH) * bits, bits


def _news(change: Values, scale: Planes, left: Values) -> Values:
    """Squared steps by which positions have changed, beyond what counts as unchanged: see `_excess`.

    left: what noise leaves of a change, squared, of each channel, in shape as one of `scale`.
    """
    unchanged = np.float32(CHANGE) + (scale * left).sum(1, dtype=np.float32)
    return np.asarray(_excess(change, scale, counted=False)[0] - unchanged)


def _excess(planes: Values, scale: Planes, *, counted: bool = True) -> tuple[Values, Values]:
    """Squared steps beyond LEFT, in sum over the channels of planes [96, ...], and how many values are off by
    SYMBOL_STEPS, if they are `counted`: [k, ...] each, for each of `scale`, steps squared, [k, 96, ...]."""
    loops = kernel.load()
    if loops is not None:
        return loops.excess(planes, scale, LEFT, SYMBOL_STEPS**2, counted=counted)
    saved, symbols = [], []
    for one in scale:  # all at once would take many times a large picture's memory
        off = planes * one
        symbols.append((off > np.float32(SYMBOL_STEPS**2)).sum(0, dtype=np.float32))
        off -= np.float32(LEFT)
        saved.append(np.add.accumulate(np.maximum(off, 0, out=off), 0, out=off)[-1].copy())  # as the kernel adds them
    return np.stack(saved), np.stack(symbols)


def _smooth(saved: Values, border: float) -> tuple[Mask, int]:
    """Copied positions, bool [h, w], where borders cost, and the bytes of the map of that."""
    loops = kernel.load()
    if loops is not None:
        copied, map_bits = loops.smooth(saved, border, _SWEEPS)
        return copied, (map_bits + 7) // 8
    coded = saved > 0
    around = np.zeros((coded.shape[0] + 2, coded.shape[1] + 2), np.float32)
    for _ in range(_SWEEPS):
        around[1:-1, 1:-1] = np.where(coded, border, -border)
        beside = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        before, coded = coded, saved + beside > 0
        if (coded == before).all():
            break
    return ~coded, copy_map.size_bytes(~coded)
