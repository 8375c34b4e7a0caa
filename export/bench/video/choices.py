"""What a sender's choices beside copies are worth, on scenes that are made of one frame: motion, and a running mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesem.codec.codec import Codec
from edgesem.codec.copying import Copying
from edgesem.codec.latent import Latent
from edgesem.codec.running_mean import RunningMean
from edgesem.quality.metrics import Frame, ms_ssim
from export.bench.video import scenes
from export.bench.video.chain import chained

FRAMES = 9  # after the keyframe
MOTION_LEVEL = 140
MEAN_LEVELS = (140, 200, 250)
TURNS = (16, 20, 32)
"""Pixels by which a camera turns to the right from one frame to the next."""
SPEEDS = (8, 16)
"""Pixels by which an object moves."""

_LEAST_WIDTH = 96  # pixels that a camera sees, which turns

Row = dict[str, float]


class Still(Copying):
    """Copies, and looks for no motion."""

    def motion(self, latent: Latent, reference: Latent, gain: np.ndarray) -> bytes:
        """None."""
        return b""


def choices(codec: Codec, frame: Frame) -> dict[str, Any]:
    """By scene, what inter frames cost without a choice (`off`) and with it (`on`), and the MS-SSIM of both.

    motion: a camera that turns, an object that moves; saved bytes where either goes by whole positions of 16 pixels.
    mean: sensor noise, by level; MS-SSIM is that to the frame without noise.
    """
    room = frame.shape[1] - _LEAST_WIDTH
    turns = [pixels for pixels in TURNS if pixels * FRAMES <= room]
    moving = {f"turn {pixels}": scenes.turned(frame, 1 + FRAMES, pixels) for pixels in turns}
    moving |= {f"object {pixels}": scenes.crossed(frame, 1 + FRAMES, pixels)[0] for pixels in SPEEDS}
    found: dict[str, Any] = {"frames": FRAMES, "motion": {}, "mean": {}}
    for name, pictures in moving.items():
        off = _row(codec, pictures, pictures, MOTION_LEVEL, Still())
        on = _row(codec, pictures, pictures, MOTION_LEVEL, Copying())
        found["motion"][name] = {"off": off, "on": on, "share": on["bytes"] / off["bytes"]}
    noisy = scenes.noisy(frame, 1 + FRAMES)
    for level in MEAN_LEVELS:
        off = _row(codec, noisy, [frame] * len(noisy), level, Copying())
        on = _row(codec, noisy, [frame] * len(noisy), level, Copying(), RunningMean())
        found["mean"][f"{level}"] = {"off": off, "on": on, "share": on["bytes"] / off["bytes"]}
    return found


def _row(
    codec: Codec,
    frames: Sequence[Frame],
    originals: Sequence[Frame],
    level: int,
    copying: Copying,
    mean: RunningMean | None = None,
) -> Row:
    """Bytes and MS-SSIM of inter frames that each refer to the one before."""
    sizes, quality = [], []
    for original, one in zip(originals, chained(codec, frames, level, copying=copying, mean=mean), strict=True):
        if not one.is_key:
            sizes.append(one.packet.size_bytes)
            quality.append(ms_ssim(original, codec.synthesize(one.decoded)))
    return {"bytes": float(np.mean(sizes)), "ms_ssim": float(np.mean(quality))}
