"""Clips: found in a folder, and read frame by frame at the rate that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, require

SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")

Frame = npt.NDArray[np.uint8]


def find_clips(folder: Path) -> list[Path]:
    """The clips in a folder, or the one that is named. Raises InputError when there is none."""
    paths = [folder] if folder.is_file() else sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"no clip in {folder}: name a folder with {', '.join(SUFFIXES)} files")
    return paths


def read_clip(
    path: Path, *, rate_hz: float, start: float = 0.0, stop: float = 1.0, most: int | None = None
) -> tuple[list[Frame], float]:
    """Frames uint8 [H, W, 3] of a clip, at most `rate_hz` of them a second, and how many a second they are.

    start, stop: the part of its time that is read, in 0..1; most: how many frames at most. Raises InputError for a file
    that is no clip.
    """
    av = require("av", "video")

    frames: list[Frame] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            own_hz = float(stream.average_rate or 25)
            count = stream.frames or round(float(container.duration or 0) / 1e6 * own_hz)
            rate_hz = min(rate_hz, own_hz)
            due = start * count
            for index, frame in enumerate(container.decode(stream)):
                if index > stop * count or (most is not None and len(frames) >= most):
                    break
                if index >= due:  # the one that is next in time, also where the rates do not divide
                    frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                    due += own_hz / rate_hz
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a clip: {error}") from error
    if not frames:
        raise InputError(f"{path} has no frame between {start:.0%} and {stop:.0%} of its time")
    return frames, rate_hz
