"""Motion: what an inter frame refers to, moved by whole positions to where it is seen.

The sender looks for it on decoded latents: one vector for all by phase correlation (C. D. Kuglin, D. C. Hines, "The
phase correlation image alignment method", 1975), then one for each block that has changed, by trying those near that.
Both ends move the reference before anything else is made of it. Nothing is computed, so both have the same numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgesem.codec.latent import Latent
from edgesem.entropy import kernel
from edgesem.packet import motion
from edgesem.packet.motion import BLOCK, Field
from edgesem.packet.side_information import MAX_MOTION_BYTES, MAX_POSITION

CHANNELS = 24
"""Of the latent, those that are compared: the first."""
PHASES = 6  # channels whose phases are correlated
MOST = 4.0
"""Squared quantizer steps that a value may be off: more is not worse."""
LEFT = CHANNELS / 12
"""What a position is off that is only rounded."""
BETTER = 0.6
"""Times what a vector must be off, of what is so without it; measured, as VECTOR is, on clips of fixed cameras."""
VECTOR = 20.0
"""What a vector of a block costs, in the same unit."""
RADIUS = 4
"""Positions by which a block's vector differs from the frame's, at the most, down and across."""
_MANY = 0.1  # share of blocks that must have changed before all of the picture may have moved
_MOST_BLOCKS = 0.5  # share of blocks above which one for each is not looked for: that takes long, and pays least

Values = npt.NDArray[np.float32]


def moved(reference: Latent, field: Field) -> Latent:
    """A reference with each position, its level and its origin taken from where the position has come from.

    What has come from outside of the picture is taken from its edge.
    """
    height, width = reference.values.shape[1:]
    vectors = np.repeat(np.repeat(field, BLOCK, 0), BLOCK, 1)[:height, :width].astype(np.intp)
    rows = np.clip(np.arange(height)[:, None] + vectors[..., 0], 0, height - 1)
    columns = np.clip(np.arange(width) + vectors[..., 1], 0, width - 1)
    return replace(
        reference,
        values=np.ascontiguousarray(reference.values[:, rows, columns]),
        copied_levels=reference.levels[rows, columns].astype(np.uint8),
        origin=None if reference.origin is None else reference.origin[:, rows, columns],
    )


def find(latent: Latent, reference: Latent, gain: Values) -> bytes:
    """The motion from a reference to a latent of its size, as a packet has it; empty if none pays.

    gain [96]: quantizer steps per unit at the quality of the reference.
    """
    scale = gain[:CHANNELS]
    ours, theirs = latent.values[:CHANNELS], reference.values[:CHANNELS]
    height, width = ours.shape[1:]
    starts = np.arange(0, height, BLOCK), np.arange(0, width, BLOCK)
    sizes = np.outer(*(np.diff(one, append=side) for one, side in zip(starts, (height, width), strict=True)))
    off = _by_block(squares_off(ours, theirs, scale, MOST), *starts)
    changed = off > (VECTOR + LEFT * sizes) / BETTER
    if not changed.any():
        return b""
    wanted, had = (one * scale[:, None, None] for one in (ours, theirs))
    whole = (0, 0)
    if changed.mean() > _MANY:
        dy, dx = _phase(wanted[:PHASES], had[:PHASES])
        rows, columns = _within(np.arange(height)[:, None] + dy, height), _within(np.arange(width) + dx, width)
        there = _by_block(squares_off(ours, theirs[:, rows, columns], scale, MOST), *starts)
        if there.sum() < BETTER * off.sum():
            whole, off = (dy, dx), there
            changed = off > (VECTOR + LEFT * sizes) / BETTER
    field = np.empty((*off.shape, 2), np.int16)
    field[:] = whole
    if 0 < changed.mean() <= _MOST_BLOCKS:
        _match(wanted, had, changed, whole, np.float32(BETTER) * off, field)
    field = np.clip(field, -MAX_POSITION, MAX_POSITION)
    for one in (field, np.full_like(field, whole)):
        if not one.any():
            return b""
        if len(data := motion.to_bytes(whole, one)) <= MAX_MOTION_BYTES:
            return data
    return b""


def _match(
    wanted: Values, had: Values, changed: npt.NDArray[np.bool_], whole: tuple[int, int], best: Values, field: Field
) -> None:
    """Put into `field` the vectors of blocks that have changed, where one is less off than `best`."""
    loops = kernel.load()
    if loops is not None:
        loops.match(wanted, had, changed, BLOCK, (*whole, RADIUS), (MOST, VECTOR), best, field)
        return
    height, width = wanted.shape[1:]
    places = np.flatnonzero(np.repeat(np.repeat(changed, BLOCK, 0), BLOCK, 1)[:height, :width])
    rows, columns = np.divmod(places, width)
    block = rows // BLOCK * changed.shape[1] + columns // BLOCK
    part = wanted[:, rows, columns]
    for dy, dx in np.ndindex(2 * RADIUS + 1, 2 * RADIUS + 1):
        vector = whole[0] + dy - RADIUS, whole[1] + dx - RADIUS
        there = had[:, _within(rows + vector[0], height), _within(columns + vector[1], width)]
        off = np.minimum(np.square(part - there), np.float32(MOST))
        off = np.add.accumulate(off, 0)[-1]  # one by one, as the kernel does
        found = (np.bincount(block, off, changed.size) + VECTOR).reshape(changed.shape)
        better = (found < best) & changed
        best[better], field[better] = found[better], vector


def squares_off(ours: Values, theirs: Values, scale: Values, most: float) -> Values:
    """Squared differences of values [n, ...], times scale [n], none above `most`, in sum over channels."""
    loops = kernel.load()
    if loops is not None:
        return loops.off(ours, theirs, scale, most)
    steps = scale.reshape(-1, *[1] * (ours.ndim - 1))
    off = np.minimum(np.square(ours * steps - theirs * steps), np.float32(most))
    return np.asarray(np.add.accumulate(off, 0)[-1])  # one by one, as the kernel does


def _by_block(off: Values, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Values:
    return np.asarray(np.add.reduceat(np.add.reduceat(off, rows, 0), columns, 1))


def _phase(wanted: Values, had: Values) -> tuple[int, int]:
    """The vector by which most of planes [n, h, w] has moved."""
    sides = 2 * wanted.shape[1], 2 * wanted.shape[2]
    ours, theirs = (np.fft.rfft2(one - one.mean((1, 2), keepdims=True), sides) for one in (wanted, had))
    both = np.conj(ours) * theirs
    peak = int(np.argmax(np.fft.irfft2((both / (np.abs(both) + 1e-9)).sum(0), sides)))
    dy, dx = ((at + side // 2) % side - side // 2 for at, side in zip(divmod(peak, sides[1]), sides, strict=True))
    return min(max(dy, -MAX_POSITION), MAX_POSITION), min(max(dx, -MAX_POSITION), MAX_POSITION)


def _within(at: npt.NDArray[np.intp], side: int) -> npt.NDArray[np.intp]:
    return np.asarray(np.clip(at, 0, side - 1))
