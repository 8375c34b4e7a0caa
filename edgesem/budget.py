"""The finest quality whose packet fits a number of bytes, in a handful of trials and without the encoder network.

All pictures' sizes follow nearly the same curve over the level (`Bundle.rate_curve`), moved up or down. Each trial
tells how far at one level, so two or three find the place. Packets that refer are on a curve twice as steep, and need
not be as full: what they leave is not lost on a scene that stands still, so one or two trials do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgesem.coder import Coder, Trial
from edgesem.errors import BudgetError
from edgesem.latent import LEVELS, Latent
from edgesem.notes import Notes
from edgesem.packet import HEADER_BYTES, MAX_CHUNK_BYTES, MAX_PACKET_BYTES, Packet

MAX_TRIALS = 6
CLOSE_ENOUGH = 0.965  # a trial that fills so much of a budget ends the search
AIM = 0.985  # and this much is what a trial aims at
CLOSE_REFERRING, AIM_REFERRING = 0.86, 0.95  # the same of packets that refer
STEEPER = 1.9  # their curve, in logarithms; this and the next as found on clips of two fixed cameras
SAVING = 2.0  # how much smaller they are than key packets, before anything is known of their like
_BENT = 0.6  # as far as the slope of a picture's curve is believed to differ from that of the curve
CUT_SHARE = 0.6  # of what a key packet is expected to have: smaller ones surely do well to refer
CUT_SHARE_LIKE = 0.9  # the same where that is known from a key packet of late


@dataclass(frozen=True)
class Task:
    """What is to be packed: a latent, what goes with it, what it refers to, and a packet of a similar picture."""

    latent: Latent
    notes: Notes
    reference: Latent | None = None
    like: Packet | None = None


@dataclass(frozen=True)
class Fit:
    """A packet's quality (0..255), the bytes of its layers, and the trial that they came from."""

    level: int
    chunks: list[bytes]
    trial: Trial


def fit(coder: Coder, task: Task, budget_bytes: int, layers: int) -> Fit:
    """The finest trial whose real size fits, with fewer layers if the coarsest quality does not otherwise.

    Raises BudgetError, which says the smallest size.
    """
    latent, notes = task.latent, task.notes
    refers = task.reference is not None
    curve = coder.bundle.rate_curve * (STEEPER if refers else 1)
    close, aim = (CLOSE_REFERRING, AIM_REFERRING) if refers else (CLOSE_ENOUGH, AIM)
    fits, too_big = -1, LEVELS + 1  # the finest level known to fit, the coarsest known not to
    best: Trial | None = None
    chunks: list[bytes] = []  # of the best trial, unless that is far from full: it is coded only if it stays best
    moved: dict[int, float] = {}
    offset = np.full(LEVELS + 1, _guess(coder, task) - math.log(budget_bytes))
    for _ in range(MAX_TRIALS):
        small = np.flatnonzero(curve + offset <= math.log(aim))
        level = min(max(int(small.max(initial=0)), fits + 1), too_big - 1)
        trial = coder.try_level(latent, level, layers, notes.region, task.reference)
        fill = (trial.size_bytes + notes.size_bytes) / budget_bytes
        near = close - 0.03 <= fill <= 1 or trial.bits / 8 > MAX_CHUNK_BYTES
        coded = trial.code() if near and fill <= 1 else []
        if coded:
            fill = max((size(coded) + notes.size_bytes) / budget_bytes, share_of_format(coded))
        if fill > 1:
            too_big = level
        else:
            fits, best, chunks = level, trial, coded
        if close <= fill <= 1 or too_big - fits <= 1:
            break
        moved[level] = math.log(fill) - float(curve[level])
        offset = _offsets(moved, curve)
    if best is not None:
        return Fit(fits, chunks or best.code(), best)
    trial = coder.try_level(latent, 0, layers, notes.region, task.reference)
    smallest = trial.code()
    smallest_bytes = size(smallest) + notes.size_bytes
    if smallest_bytes <= budget_bytes:
        return Fit(0, smallest, trial)
    if layers > 1:
        return fit(coder, task, budget_bytes, layers - 1)
    raise BudgetError(
        f"{budget_bytes} bytes do not hold a picture of {latent.width}x{latent.height}, {smallest_bytes} would: "
        "raise the budget or send a smaller picture",
        smallest_bytes=smallest_bytes,
    )


def _offsets(moved: dict[int, float], curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far sizes lie above the curve at each level, as trials found it; beyond them, as it went between them."""
    known = sorted(moved)
    offset = np.interp(np.arange(LEVELS + 1), known, [moved[level] for level in known])
    for end, inner, beyond in ((0, 1, np.s_[: known[0]]), (-1, -2, np.s_[known[-1] + 1 :])):
        if len(known) > 1 and curve[known[end]] != curve[known[inner]]:
            there, here = known[end], known[inner]
            slope = (moved[there] - moved[here]) / (curve[there] - curve[here])
            offset[beyond] += min(max(float(slope), -_BENT), _BENT) * (curve[beyond] - curve[there])
    return offset


def is_cut(coder: Coder, latent: Latent, packet: Packet, like: Packet | None) -> bool:
    """Whether a key packet of this latent, of the same quality, would be no larger than `packet`, which refers."""
    guess = _guess(coder, Task(latent, packet.notes, like=like))
    expected = math.exp(guess + float(coder.bundle.rate_curve[packet.q]))
    if packet.size_bytes < (CUT_SHARE if like is None else CUT_SHARE_LIKE) * expected:
        return False
    trial = coder.try_level(latent, packet.q, packet.total_layers, packet.notes.region)
    return trial.size_bytes + replace(packet.notes, reference=None).size_bytes <= packet.size_bytes


def activity(latent: Latent, gain: npt.NDArray[np.float32]) -> float:
    """Bits a position that Gaussian channels of this spread would cost at the middle quality: a cheap forecast."""
    scaled = latent.values[:, ::2, ::2] * gain[LEVELS // 2][:, None, None]
    return float(np.log2(1 + scaled**2).sum() / 2 / scaled[0].size) + 1e-3


def size(chunks: list[bytes]) -> int:
    """Bytes of a packet of these layers, without notes."""
    return HEADER_BYTES + 2 * (len(chunks) - 1) + sum(map(len, chunks))


def share_of_format(chunks: list[bytes]) -> float:
    """How much of the largest packet there can be these chunks fill; above 1 they fit none."""
    return max(size(chunks) / MAX_PACKET_BYTES, *(len(chunk) / MAX_CHUNK_BYTES for chunk in chunks))


def _guess(coder: Coder, task: Task) -> float:
    """How far this picture's sizes lie above the rate curve, before any trial (natural log)."""
    like, latent, bundle, refers = task.like, task.latent, coder.bundle, task.reference is not None
    if like is not None and (like.width, like.height) == (latent.width, latent.height):
        saving = SAVING if refers and like.notes.reference is None else 1.0
        return math.log(like.size_bytes / saving) - float(bundle.rate_curve[like.q]) * (STEEPER if refers else 1)
    offset, factor = bundle.rate_guess
    positions = latent.values[0].size / (SAVING if refers else 1)
    return float(offset + factor * math.log(activity(latent, bundle.gain)) + math.log(positions))
