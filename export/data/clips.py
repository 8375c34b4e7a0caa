"""Reader of clips: the frames of a part of a video file, at a given rate, all in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgesem.quality.metrics import Frame
from edgesem.video import read_video, video_info

_USUAL_HZ = 25.0  # of a file that does not say
_FOR_BACKGROUND = 25  # frames
_ROWS = 64  # at a time: the middle of 25 large pictures takes eight times their memory


def background_of(frames: Sequence[Frame]) -> Frame:
    """The middle value of each pixel of frames of one size: what is in fewer than half of them is left out.

    Of at most 25 frames, spread over them.
    """
    stacked = np.stack(frames[:: -(-len(frames) // _FOR_BACKGROUND)])
    rows = [np.median(stacked[:, top : top + _ROWS], 0) for top in range(0, stacked.shape[1], _ROWS)]
    return np.concatenate(rows).round().astype(np.uint8)


def read_clip(
    path: Path, *, rate_hz: float, start: float = 0.0, stop: float = 1.0, most: int | None = None
) -> tuple[list[Frame], float]:
    """Frames uint8 [H, W, 3], RGB, of a clip, at most `rate_hz` of them a second, and how many a second they are.

    start, stop: the part of its time that is read, in 0..1; most: how many frames at most. Raises InputError for a file
    that is no video or has no frame in that part, MissingDependency without PyAV.
    """
    info = video_info(path)
    duration_s = info.duration_s or math.inf
    frames: list[Frame] = []
    for frame in read_video(path, rate_hz=rate_hz, start_s=start * duration_s if start else 0.0):
        if (stop < 1 and frame.time_s > stop * duration_s) or (most is not None and len(frames) >= most):
            break
        frames.append(frame.rgb())
    return frames, min(rate_hz, info.rate_hz or _USUAL_HZ)
