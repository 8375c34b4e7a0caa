"""Rate control: the finest quality whose packet fits a number of bytes, found in a handful of trials.

Sizes at all quality levels are forecast from the latent, or from a packet of the frame before. A trial rounds the
latent at one level and tells how far off the forecast was there, so one or two trials find the place. A first trial
that turns out to be wrong ends after two layers, a third of the work. No trial runs the encoder network, and only the
last is coded: a trial knows its size from the tables.

Where an inter frame copies what has not changed, its size leaps at the level from which on all of that would become
finer. If there are no bytes for all of it, a part is made finer, and the rest in the frames that follow.

Inter frames lie on a steeper curve than keyframes, and their budget need not be filled as closely: on a scene that
stands still, what they leave unused is not lost.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.codec.coder import Coder
from edgesem.codec.copying import Differences
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import PackOptions
from edgesem.codec.trial import Trial
from edgesem.entropy import kernel
from edgesem.entropy.schedule import GROUPS
from edgesem.errors import BudgetError
from edgesem.packet.packet import HEADER_BYTES, MAX_CHUNK_BYTES, MAX_PACKET_BYTES, Packet

MAX_TRIALS = 6
CLOSE_ENOUGH = 0.956  # a trial that fills so much of the budget ends the search
AIM = 0.979  # the share of the budget that a trial aims at
CLOSE_INTER, AIM_INTER = 0.8, 0.9  # the same for inter frames
QUICK_TRIALS, QUICK_LAYERS = 2, 2  # so many trials end after so many layers where those tell that the size is wrong
STEEPER = 1.75  # slope of inter frames' curve over keyframes', in logarithms; measured, as SAVING and SETTLING are, on
# clips of two fixed cameras and on still scenes with noise
SAVING = 2.4  # size of a keyframe over that of an inter frame after it
SETTLING = 1.5  # size of an inter frame over that of the next one: what the first has sent need not be sent again
KNOTS = np.linspace(0, LEVELS, 9).round().astype(int)  # levels at which sizes are forecast
_LARGE, _NEW = 0.35, 1.0  # in quantizer steps: when a value counts as large, and its distance from its neighbours
_LEAST_BYTES = 0.02  # a position
_BENT = 0.6  # the most that the slope of a picture's curve is taken to differ from the forecast's
REFINED, LEAST_REFINED = 0.85, 0.1  # shares of a budget up to which what stands still is made finer, if by no less
DEARER = 1.25  # size of what has changed where the rest becomes finer too, over what it is otherwise
RISE = 24  # quality levels by which a part of it becomes finer, where there are no bytes for all of it
CUT_SHARE = 0.8  # an inter frame below this share of the keyframe's expected size is no scene cut, without a trial
CUT_SHARE_PREVIOUS = 0.9  # the same where a recent keyframe's size is known

Curve = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """The bytes of a packet's layers, and the trial that they came from."""

    chunks: list[bytes]
    trial: Trial


def fit(coder: Coder, latent: Latent, options: PackOptions, budget_bytes: int) -> Fit:
    """The finest trial whose real size fits, with fewer layers if the coarsest quality does not otherwise.

    Raises BudgetError, which says the smallest size.
    """
    differences, layers = options.differences_of(latent), options.layers
    close, aim = (CLOSE_ENOUGH, AIM) if options.reference is None else (CLOSE_INTER, AIM_INTER)
    fits, too_big = -1, LEVELS + 1  # the finest level known to fit, the coarsest known not to
    leap = LEVELS + 1
    if differences is None:
        curve = _forecast(coder, latent, options)
    else:
        curve, leap = _with_copies(coder, differences, options), differences.usual_level
    best: Trial | None = None
    trial: Trial | None = None
    tried = -1, -1  # level and layers of `trial`
    moved: dict[int, float] = {}
    offset = np.full(LEVELS + 1, -math.log(budget_bytes))
    for left in reversed(range(MAX_TRIALS)):
        small = np.flatnonzero(curve + offset <= math.log(aim))
        level = min(max(int(small.max(initial=0)), fits + 1), too_big - 1)
        if left < MAX_TRIALS - QUICK_TRIALS and fits < leap:
            level = min(level, leap)  # where what stands still need not become finer
        if best is None and left < 2:
            level = 0  # else no trial would be left for fewer layers
        if trial is None or tried != (level, layers):  # else it goes on where it ended early
            trial, tried = coder.try_options(latent, level, options, layers, differences), (level, layers)
        side_bytes = options.side_info_with(trial.copies).size_bytes
        # With a larger budget it may be one layer that is too big, which the first layers do not tell.
        quick = left >= MAX_TRIALS - QUICK_TRIALS and budget_bytes <= MAX_CHUNK_BYTES
        if quick and level > 0 and level not in moved and layers > QUICK_LAYERS:
            likely = _share(trial.likely_bytes(QUICK_LAYERS) + side_bytes, budget_bytes)
            if likely > 1 or (likely < close and level + 1 < too_big):
                moved[level] = math.log(likely) - float(curve[level])
                offset = _offsets(moved, curve)
                continue
        fill = _fill(trial, side_bytes, budget_bytes)
        enough = fill >= close or level + 1 == too_big or level == leap or not left
        if level == 0 or (enough and fill <= 1):
            chunks = trial.code()
            fill = _real_fill(chunks, side_bytes, budget_bytes)
            if enough and fill <= 1:
                found = Fit(chunks, trial)
                if differences is None or level != leap:
                    return found
                return _refined(coder, latent, options, differences, budget_bytes, fill) or found
        if fill <= 1:
            fits, best = level, trial
        else:
            too_big = level
        if best is not None and too_big - fits == 1:
            break
        if too_big == 0:
            layers, fill = _fewer_layers(trial, side_bytes, budget_bytes)
            too_big, moved = LEVELS + 1, {}
        moved[level] = math.log(fill) - float(curve[level])
        offset = _offsets(moved, curve)
    assert best is not None
    return Fit(best.code(), best)


def _fewer_layers(coarsest: Trial, side_bytes: int, budget_bytes: int) -> tuple[int, float]:
    """The most layers of the coarsest trial, which does not fit, that do, and how far they fill the budget."""
    for layers in range(len(coarsest.entries) - 1, 0, -1):
        fill = _real_fill(coarsest.code_layers(layers), side_bytes, budget_bytes)
        if fill <= 1:
            return layers, fill
    smallest_bytes = size(coarsest.code_layers(1)) + side_bytes
    raise BudgetError(
        f"{budget_bytes} bytes do not hold a picture of {coarsest.decoded.width}x{coarsest.decoded.height}, "
        f"{smallest_bytes} "
        "would: raise the budget or send a smaller picture",
        smallest_bytes=smallest_bytes,
    )


def _offsets(moved: dict[int, float], curve: Curve) -> Curve:
    """How far sizes lie above the forecast at each level, as trials found it; beyond them, as it went between them."""
    known = sorted(moved)
    offset = np.interp(np.arange(LEVELS + 1), known, [moved[level] for level in known])
    for end, inner, beyond in ((0, 1, np.s_[: known[0]]), (-1, -2, np.s_[known[-1] + 1 :])):
        if len(known) > 1 and curve[known[end]] != curve[known[inner]]:
            there, here = known[end], known[inner]
            slope = (moved[there] - moved[here]) / (curve[there] - curve[here])
            offset[beyond] += min(max(float(slope), -_BENT), _BENT) * (curve[beyond] - curve[there])
    return offset


def is_cut(coder: Coder, latent: Latent, packet: Packet, previous: Packet | None = None) -> bool:
    """Whether a packet of this latent and quality that is predicted from nothing would be no larger than `packet`."""
    share = CUT_SHARE if previous is None else CUT_SHARE_PREVIOUS
    if previous is not None and packet.q >= previous.q and packet.size_bytes < share * previous.size_bytes:
        return False  # as a keyframe of no lower quality is expected to be no smaller
    expected = math.exp(_forecast(coder, latent, PackOptions(previous=previous))[packet.q])
    if packet.size_bytes < share * expected:
        return False
    trial = coder.try_level(latent, packet.q, packet.total_layers, packet.side_info.region)
    alone = replace(packet.side_info, reference=None, background=None)
    return trial.size_bytes + alone.size_bytes <= packet.size_bytes


def features(latent: Latent, gain: npt.NDArray[np.float32]) -> Curve:
    """Features of a latent that predict its packet's size at each of KNOTS: float64 [9, 9].

    The bundle holds their weights (`Bundle.rate_guess`). Per position and group of channels: how many values are large
    (4 features), how many differ much from the mean of their four neighbours (4 features), and the constant 1. One
    position in four is counted.
    """
    limits = np.array([[_LARGE], [_NEW]], np.float32) / gain[KNOTS][:, None]
    loops = kernel.load()
    counts = _counts(latent.values, limits) if loops is None else loops.count(latent.values, limits)
    counts = np.add.reduceat(counts, np.cumsum((0, *GROUPS[:-1])), 2).reshape(len(KNOTS), -1)
    return np.hstack([counts / latent.values[0, ::2, ::2].size, np.ones((len(KNOTS), 1))])


def _counts(values: npt.NDArray[np.float32], limits: npt.NDArray[np.float32]) -> npt.NDArray[np.signedinteger]:
    """See `edgesem.entropy.kernel.Kernel.count`."""
    own, around = _sampled(values)
    sizes = np.abs(np.stack([own, own - around])).reshape(2, len(own), -1)
    return np.stack([np.count_nonzero(sizes > limit[..., None], 2) for limit in limits])


def _sampled(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One position in four of [n, h, w], and the means of each one's four neighbours; the edge's own where it ends."""
    rows, columns = (np.arange(0, side, 2) for side in values.shape[1:])
    up, down = np.maximum(rows - 1, 0), np.minimum(rows + 1, values.shape[1] - 1)
    left, right = np.maximum(columns - 1, 0), np.minimum(columns + 1, values.shape[2] - 1)
    over, beside = values[:, :, ::2], values[:, ::2]
    around = over[:, up] + over[:, down] + (beside[:, :, left] + beside[:, :, right])
    return beside[:, :, ::2], around * np.float32(0.25)


def size(chunks: list[bytes]) -> int:
    """Bytes of a packet of these layers, without side information."""
    return HEADER_BYTES + 2 * (len(chunks) - 1) + sum(map(len, chunks))


def share_of_format(chunks: list[bytes]) -> float:
    """Share of the format's largest packet that these chunks fill; above 1 no packet can hold them."""
    return max(size(chunks) / MAX_PACKET_BYTES, *(len(chunk) / MAX_CHUNK_BYTES for chunk in chunks))


def _fill(trial: Trial, side_bytes: int, budget_bytes: int) -> float:
    """Share of a budget, or of what the format can hold, that a trial will fill once it is coded."""
    return max(
        _share(trial.size_bytes + side_bytes, budget_bytes), max(trial.layer_bits, default=0) / 8 / MAX_CHUNK_BYTES
    )


def _share(whole_bytes: float, budget_bytes: int) -> float:
    """Share of a budget, or of the largest packet there is, that a packet of so many bytes fills."""
    return max(whole_bytes / budget_bytes, whole_bytes / MAX_PACKET_BYTES)


def _real_fill(chunks: list[bytes], side_bytes: int, budget_bytes: int) -> float:
    """The same for coded chunks, exact."""
    return max((size(chunks) + side_bytes) / budget_bytes, share_of_format(chunks))


def _refined(
    coder: Coder, latent: Latent, options: PackOptions, differences: Differences, budget_bytes: int, fill: float
) -> Fit | None:
    """A packet that also makes finer a part of what stands still, the coarsest first, so that in some frames all of it
    is. None if there are no bytes for that beside what has changed, which fills the budget to `fill`.
    """
    level, share = min(differences.usual_level + RISE, LEVELS), REFINED - DEARER * fill
    while share >= LEAST_REFINED and level > differences.usual_level:
        trial = coder.try_options(latent, level, options, options.layers, differences, share * budget_bytes)
        side_bytes = options.side_info_with(trial.copies).size_bytes
        for layers in range(QUICK_LAYERS, options.layers):
            least = _share(trial.least_bytes(layers) + side_bytes, budget_bytes)
            if least > 1 and share - max(least - REFINED, LEAST_REFINED) < LEAST_REFINED:
                return None  # too big, and by so much that no smaller part would be tried
        fill = _fill(trial, side_bytes, budget_bytes)
        if fill <= 1:
            chunks = trial.code()
            if _real_fill(chunks, side_bytes, budget_bytes) <= 1:
                return Fit(chunks, trial)
        share -= max(fill - REFINED, LEAST_REFINED)
    return None


def _with_copies(coder: Coder, differences: Differences, options: PackOptions) -> Curve:
    """As `_forecast`, where positions may be copied. It leaps where what stands still would become finer."""
    leap = differences.usual_level
    knots = sorted({*KNOTS.tolist(), leap, min(leap + 1, LEVELS)})
    framing = HEADER_BYTES + options.side_info.size_bytes + 1
    sizes = framing + np.array(differences.likely_bytes(coder.gain[knots], np.array(knots)))
    curve = np.interp(np.arange(LEVELS + 1), knots, np.log(sizes))
    return np.asarray(np.maximum.accumulate(curve))


def _forecast(coder: Coder, latent: Latent, options: PackOptions) -> Curve:
    """The natural logarithm of a packet's size at each level, before any trial: float64 [256]."""
    previous, inter = options.previous, options.reference is not None
    per_position = (features(latent, coder.gain) * coder.bundle.rate_guess).sum(1)
    knots = np.log(np.maximum(per_position, _LEAST_BYTES) * latent.values[0].size)
    curve = np.interp(np.arange(LEVELS + 1), KNOTS, knots)
    if inter:
        middle = curve[LEVELS // 2]
        curve = middle - math.log(SAVING) + STEEPER * (curve - middle)
    if previous is not None and (previous.width, previous.height) == (latent.width, latent.height):
        saving = SETTLING if inter else 1.0
        if inter and previous.side_info.prediction is None:
            saving = SAVING
        elif options.side_info.background is not None:
            saving = 1.0  # what is missing in a background picture is missing in every keyframe
        curve += math.log(previous.size_bytes / saving) - curve[previous.q]
    return np.asarray(np.maximum.accumulate(curve))
