"""Conditional replenishment: of a camera that stands still, the encoder network sees again only what has changed.

    frame -> blocks of 16x16 pixels that differ from the kept picture beyond noise -> rectangle around them
          -> encoder network -> the kept latent, with new values there

F. W. Mounts, "A video encoding system with conditional picture-element replenishment", 1969. What a block's change must
exceed is learned from the camera: sensor noise is another in dark and in bright parts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgesem.codec.frames import Frame, check_frame
from edgesem.codec.latent import Latent
from edgesem.entropy.schedule import STRIDE

WHOLE_FIRST = 3
"""Whole frames at the start: noise is learned from what is new everywhere."""
WHOLE_EVERY = 32
"""Frames after which all is seen again, so that nothing that changes too slowly to be noticed stays for long."""
MOST_SHARE = 0.7
"""Of a picture; where more would be seen again, all is."""
RENEWED, MARGIN = 2, 4
"""Positions beside what has changed whose values are renewed, and that the network sees for that: farther off, they
change by less than 0.05 quantizer steps at level 140; measured."""
EDGE = 1
"""Positions beside what has changed where the picture is renewed too: for edges, which fill less of their blocks."""
NOISE_TIMES, LEAST_CHANGE = 1.3, 0.25
"""A block has changed if its pixels are off by so many times the noise and so many grey levels, in the mean."""
MEAN_TIMES, LEAST_MEAN_CHANGE = 0.7, 0.4
"""The same for the mean of a colour over the block, in which noise is smaller: a slow change of light."""
LEAST_LIGHT_CHANGE = 0.5
"""Grey levels by which most of the picture has become brighter or darker in a colour: then all is seen again."""
MOST_NOISE = 3.0
"""Grey levels, in the mean of a block, that are believed to be noise: that of a sensor with a deviation of 2.6."""
_QUIETEST = 0.25  # share of the blocks that tell the noise of all
_MOST_TIMES = 2.0  # noise of a block over that: more is a change that goes on
_RISE = 1.05  # of the noise of all, a frame: it grows slowly
_BLOCK_RISE = 1.01  # of that of one block: faster, and what moves in slowly would pass for noise
_ROWS = 4  # one row of pixels in so many is looked at
_FIRST_ROWS = (0, 2, 1, 3)  # in turn: what is two pixels high is seen in two frames

Values = npt.NDArray[np.float32]


class Replenishment:
    """Latents of the frames of one camera, in order. Not thread-safe."""

    def __init__(self, analyze: Callable[[Frame], Latent]) -> None:
        """analyze: runs the encoder network on a frame: `Codec.analyze`."""
        self._analyze = analyze
        self._picture: Frame = np.empty((0, 0, 3), np.uint8)
        self._latent: Latent | None = None
        self._noise: Values | None = None
        """Of each block, in grey levels, [h, w]: mean difference of pixels from one frame to another."""
        self._frames = self._whole_frames = 0

    def analyze(self, frame: Frame) -> Latent:
        """The latent of a frame, uint8 [H, W, 3]: that of all of it, or the one before with what has changed.

        Where nothing has changed it is the same object. Raises what `Codec.analyze` does.
        """
        latent = self._latent
        if latent is None or check_frame(frame).shape != self._picture.shape:
            self._noise, self._whole_frames = None, 0
            return self._whole(frame)
        first = _FIRST_ROWS[self._frames % _ROWS]
        off, mean_off = _differences(frame[first:], self._picture[first:], -(-frame.shape[0] // STRIDE))
        if not off.any() and np.array_equal(frame, self._picture):
            return latent
        noise = self._learn(off)
        self._frames += 1
        light = np.abs(np.median(mean_off, (0, 1))).max()
        if self._whole_frames < WHOLE_FIRST or self._frames >= WHOLE_EVERY or light > LEAST_LIGHT_CHANGE:
            return self._whole(frame)
        changed = off > NOISE_TIMES * noise + LEAST_CHANGE
        changed |= np.abs(mean_off).max(2) > MEAN_TIMES * noise + LEAST_MEAN_CHANGE
        if not changed.any():
            return latent
        return self._part(frame, latent, changed)

    def _whole(self, frame: Frame) -> Latent:
        self._latent = self._analyze(frame)
        self._picture = frame.copy()
        self._frames, self._whole_frames = 0, self._whole_frames + 1
        return self._latent

    def _part(self, frame: Frame, latent: Latent, changed: npt.NDArray[np.bool_]) -> Latent:
        """The latent with new values in and around the rectangle that holds all blocks that have changed."""
        ends = [np.flatnonzero(changed.any(axis))[[0, -1]] + (0, 1) for axis in (1, 0)]
        seen, renewed = (_widened(ends, by, changed.shape) for by in (MARGIN, RENEWED))
        share = float(np.prod([one.stop - one.start for one in seen])) / changed.size
        if share > MOST_SHARE:
            return self._whole(frame)
        self._latent = None  # if the network fails, the next frame is seen whole
        rectangle = _pixels(_widened(ends, EDGE, changed.shape))
        self._picture[rectangle] = frame[rectangle]
        part = self._analyze(self._picture[_pixels(seen)]).values
        values = latent.values.copy()
        rows, columns = renewed
        inner = part[:, rows.start - seen[0].start :, columns.start - seen[1].start :]
        values[:, rows, columns] = inner[:, : rows.stop - rows.start, : columns.stop - columns.start]
        self._latent = Latent(values, latent.width, latent.height)
        return self._latent

    def _learn(self, off: Values) -> Values:
        """The noise of each block, [h, w], with what a frame is off by."""
        before = off if self._noise is None else self._noise
        usual = min(float(np.quantile(np.minimum(off, np.float32(_RISE) * before), _QUIETEST)), MOST_NOISE)
        noise = np.minimum(off, np.float32(_BLOCK_RISE) * before)
        self._noise = np.clip(noise, np.float32(usual), np.float32(_MOST_TIMES * usual))
        return self._noise


def _widened(ends: list[npt.NDArray[np.int64]], by: int, shape: tuple[int, ...]) -> list[slice]:
    """From and to which row and column positions [h, w] are that lie so many beside a rectangle, or in it."""
    return [
        slice(max(0, int(start) - by), min(count, int(stop) + by))
        for (start, stop), count in zip(ends, shape, strict=True)
    ]


def _pixels(positions: list[slice]) -> tuple[slice, ...]:
    return tuple(slice(one.start * STRIDE, one.stop * STRIDE) for one in positions)


def _differences(a: Frame, b: Frame, rows: int) -> tuple[Values, Values]:
    """Of each of so many rows of blocks: how far two frames are apart in the mean of its pixels, float32 [h, w], and
    how much brighter the first one is in the mean of each colour, [h, w, 3]. One row in four is looked at: 0 for a last
    block that has none."""
    a, b = a[::_ROWS], b[::_ROWS]
    columns = -(-a.shape[1] // STRIDE)
    apart = np.maximum(a, b)
    apart -= np.minimum(a, b)
    counts = np.outer(_extents(a.shape[0], STRIDE // _ROWS, rows), _extents(a.shape[1], STRIDE, columns))
    sums = [_sums(one, rows, columns) for one in (apart, a, b)]
    off = sums[0].sum(2) / (3 * counts)
    mean_off = (sums[1] - sums[2]) / counts[:, :, None]
    return off.astype(np.float32), mean_off.astype(np.float32)


def _extents(side: int, block: int, count: int) -> npt.NDArray[np.int32]:
    """How many pixels each block has along a side: the last one may have fewer; 1 for none."""
    return np.clip(side - block * np.arange(count, dtype=np.int32), 1, block)


def _sums(planes: Frame, rows: int, columns: int) -> Values:
    """Sums of bytes [H, W, 3] over the blocks, float32 [rows, columns, 3]."""
    height, width = planes.shape[:2]
    block = STRIDE // _ROWS
    down = np.zeros((rows, columns * STRIDE * 3), np.float32)
    whole = height // block
    flat = planes.reshape(height, width * 3)
    down[:whole, : width * 3] = flat[: whole * block].reshape(whole, block, width * 3).sum(1, dtype=np.uint16)
    if whole < rows:
        down[whole, : width * 3] = flat[whole * block :].sum(0, dtype=np.uint16)
    return down.reshape(rows, columns, STRIDE * 3) @ np.tile(np.eye(3, dtype=np.float32), (STRIDE, 1))
