"""Flicker: how much parts of a scene that stand still change all the same, in what a receiver sees.

`deviation_in_still_parts` looks at each pixel over a whole clip. `change_in_still_parts` looks from each frame to the
next, and only at blocks that stand still as a whole: the first also counts pixels that a car of the ground's own grey
has crossed. Each is also given times the clip's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgesem.quality.metrics import Frame

STILL = 2.0
"""Grey levels of 255: what deviates or changes by less stands still."""
BLOCK = 16
"""Pixels a side of the blocks that stand still or do not: noise of single pixels says nothing about that."""


def deviation_in_still_parts(originals: Sequence[Frame], pictures: Sequence[Frame]) -> float:
    """Standard deviation over time of pixels whose own deviation is below STILL, in grey levels; NaN without any."""
    before, after = (_deviation(one) for one in (originals, pictures))
    still = before < STILL
    return float(after[still].mean()) if still.any() else float("nan")


def change_in_still_parts(originals: Sequence[Frame], pictures: Sequence[Frame]) -> float:
    """Mean change of grey from each picture to the next, in blocks where the originals change by less than STILL.

    In grey levels of 255, over all such blocks of all pairs; NaN without any. Of the clip itself if both are the same.
    """
    total, pixels = 0.0, 0
    for now in range(1, len(originals)):
        original, drawn = (_change(one[now - 1], one[now]) for one in (originals, pictures))
        still = _still(original)
        total += float(drawn[still].sum())
        pixels += int(still.sum())
    return total / pixels if pixels else float("nan")


def figures(originals: Sequence[Frame], pictures: Sequence[Frame]) -> dict[str, float]:
    """Both measures of what a receiver sees, by name, and each times the clip's own (NaN where that is nothing)."""
    found = {}
    for name, measure in (("flicker", deviation_in_still_parts), ("flicker_change", change_in_still_parts)):
        found[name] = measure(originals, pictures)
        found[f"{name}_times"] = times_the_clips(found[name], measure(originals, originals))
    return found


def times_the_clips(change: float, own: float) -> float:
    """A figure over that of the clip itself; NaN where nothing of the clip stands still, or all of it perfectly."""
    return change / own if own > 0 else float("nan")


def _deviation(pictures: Sequence[Frame]) -> npt.NDArray[np.float32]:
    """Of each pixel's grey over time, float32 [H, W]."""
    return np.stack([picture.mean(2, dtype=np.float32) for picture in pictures]).std(0)


def _change(before: Frame, now: Frame) -> npt.NDArray[np.float32]:
    """Of each pixel's grey, float32 [H, W], 0 or more."""
    return np.abs(now.mean(2, dtype=np.float32) - before.mean(2, dtype=np.float32))


def _still(change: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which pixels, [H, W], are in blocks that change by less than STILL in the mean."""
    still = block_means(change) < STILL
    return np.repeat(np.repeat(still, BLOCK, 0), BLOCK, 1)[: change.shape[0], : change.shape[1]]


def block_means(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Means of values [H, W] over blocks of BLOCK x BLOCK; those at the edge may be cut."""
    starts = [np.arange(0, side, BLOCK) for side in values.shape]
    rows, columns = (np.diff(one, append=side) for one, side in zip(starts, values.shape, strict=True))
    total = np.add.reduceat(np.add.reduceat(values, starts[0], 0), starts[1], 1)
    return np.asarray(total / np.outer(rows, columns), np.float64)
