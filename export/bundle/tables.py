"""Entropy tables fitted by counting the symbols that occur under each scale index, on real pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from edgesem.codec.budget import KNOTS, features
from edgesem.codec.codec import Codec
from edgesem.codec.copying import Copying
from edgesem.codec.latent import LEVELS
from edgesem.entropy.tables import MAX_RADIUS, PRECISION, SCALES, SMALLEST_WIDTH, WIDTH_RATIO, Tables
from edgesem.packet import copy_map
from export.data.crops import fitting_crop
from export.data.sequences import ROOM, Sequences

_SLOTS = 1 << PRECISION
_PRIOR = 50.0  # symbols' worth of belief in the logistic law, where little was counted
_SKIP = 1 / 500  # a table whose symbol is 0 more surely than this codes nothing: no bits, no time, and little error
_USUAL_BYTES = np.array([0.1, 0.3, 0.4, 0.35, 0.55, 0.1, 0.3, 0.25, 0.35])  # by edgesem.codec.budget.features
_SEQUENCES = 40  # that the tables of inter frames are fitted on
_NEAR = 25  # levels from one picture of a sequence to the next, mostly
_LEAN = 0.2  # how much a fit leans on them

Counts = npt.NDArray[np.float64]


def logistic(scale: int, radius: int) -> Counts:
    """Probabilities of -radius..radius under the law that scale index `scale` was trained with: float64 [2r+1]."""
    width = SMALLEST_WIDTH * WIDTH_RATIO**scale
    away = np.abs(np.arange(-radius, radius + 1))
    mass = _sigmoid((0.5 - away) / width) - _sigmoid((-0.5 - away) / width)
    return np.asarray(mass / mass.sum())


def starting_tables(narrowest: int = 8) -> Tables:
    """Tables of the logistic law alone, wide enough for the outliers that a fit has to see."""
    widths = SMALLEST_WIDTH * WIDTH_RATIO ** np.arange(SCALES)
    radius = np.clip(np.ceil(25 * widths), narrowest, MAX_RADIUS).astype(np.int32)
    return _build(radius, [logistic(k, r) for k, r in enumerate(radius)])


def fitted_tables(counts: Sequence[Counts]) -> Tables:
    """Tables from counts [2r+1] of each scale index, symmetric, leaning on the logistic law where counts are few."""
    radius: list[int] = []
    laws = []
    for scale, count in enumerate(counts):
        r = len(count) // 2
        total = count.sum()
        first = all(one == 0 for one in radius)  # of those that are left
        if first and total > 1e4 and 1 - count[r] / total < _SKIP:
            radius.append(0)
            laws.append(np.ones(1))
            continue
        law = (count + count[::-1]) / 2 + _PRIOR * logistic(scale, r)
        radius.append(r)
        laws.append(law / law.sum())
    return _build(np.array(radius, np.int32), laws)


def count_symbols(
    codec: Codec, frames: Sequence[npt.NDArray[np.uint8]], progress: Callable[[float], None]
) -> list[Counts]:
    """How often each symbol occurs under each scale index when `codec` codes `frames`, at qualities of all kinds."""
    tables = codec.bundle.tables
    total = np.zeros(tables.bits.size)
    for index, frame in enumerate(frames):
        level = (index * 97 + 13) % (LEVELS + 1)
        for entries in codec.trial(codec.analyze(frame), level).entries:
            for sweep in entries:
                total += np.bincount(sweep, minlength=total.size)
        progress((index + 1) / len(frames))
    return np.split(total, tables.ends[:-1])


def count_references(
    codec: Codec, photographs: Path, progress: Callable[[float], None], sequences: int = _SEQUENCES
) -> list[Counts]:
    """How often each symbol occurs under each scale index in inter frames that refer to the picture before.

    The sequences are made of photographs (export.data.sequences). As a sender does, they copy what has not changed.
    """
    tables = codec.bundle.reference_tables
    total = np.zeros(tables.bits.size)
    crop = fitting_crop(photographs, 256, ROOM)
    source, random = Sequences(nn.Identity(), photographs, None, crop=crop, seed=1), np.random.default_rng(1)
    for index in range(sequences):
        pictures = source.made().transpose(0, 2, 3, 1)
        first, *others = (codec.analyze(np.ascontiguousarray(_bytes(picture))) for picture in pictures)
        level, copying = (index * 97 + 13) % (LEVELS + 1), Copying()
        copying.look(first)
        known = codec.trial(first, level).decoded
        for latent in others:
            copying.look(latent)
            level = int(np.clip(level + random.normal(0, _NEAR), 0, LEVELS))
            differences = copying.against(latent, known, copy_map.MAX_BYTES)
            trial = codec.trial(latent, level, reference=known, differences=differences)
            for sweep in (entries for layer in trial.entries for entries in layer):
                total += np.bincount(sweep, minlength=total.size)
            known = trial.decoded
        progress((index + 1) / sequences)
    return np.split(total, tables.ends[:-1])


def rate_guess(
    codec: Codec, frames: Sequence[npt.NDArray[np.uint8]], progress: Callable[[float], None]
) -> npt.NDArray[np.float64]:
    """How a latent's features foretell the size of its packets at each of KNOTS: float64 [9, 9], Bundle.rate_guess.

    A regression of relative errors that leans, where pictures are few, on weights that another model had.
    """
    sizes, seen = [], []
    for index, frame in enumerate(frames):
        latent = codec.analyze(frame)
        sizes.append([codec.trial(latent, level).size_bytes / latent.values[0].size for level in KNOTS.tolist()])
        seen.append(features(latent, codec.bundle.gain))
        progress((index + 1) / len(frames))
    relative = np.stack(seen, 1) / np.array(sizes).T[:, :, None]
    lean = np.eye(len(_USUAL_BYTES)) * math.sqrt(_LEAN)
    return np.array([_leaning(x, lean) for x in relative])


def _leaning(relative: Counts, lean: Counts) -> Counts:
    """The weights with which features relative to sizes, [pictures, 9], make about 1 each."""
    goal = np.append(1 - relative @ _USUAL_BYTES, np.zeros(len(lean)))
    return np.asarray(_USUAL_BYTES + np.linalg.lstsq(np.vstack([relative, lean]), goal, rcond=None)[0])


def _bytes(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A picture, float [H, W, 3], about 0..1, as uint8."""
    return np.rint(picture * 255).clip(0, 255).astype(np.uint8)


def _build(radius: npt.NDArray[np.int32], laws: Sequence[Counts]) -> Tables:
    return Tables.of(radius, np.concatenate([_to_slots(law) for law in laws]))


def _to_slots(law: Counts) -> npt.NDArray[np.int64]:
    """Frequencies of at least 1 that sum to 2^16, by largest remainder."""
    ideal = law / law.sum() * (_SLOTS - law.size)
    slots = np.floor(ideal).astype(np.int64)
    for index in np.argsort(slots - ideal)[: _SLOTS - law.size - slots.sum()]:
        slots[index] += 1
    return slots + 1


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -700, 700))))
