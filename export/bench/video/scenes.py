"""Scenes of known change, made of one frame: the same again, sensor noise, a change of light, an object that moves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesem.entropy.schedule import STRIDE
from edgesem.quality.metrics import Frame

NOISE = 2.0
"""Standard deviation of a sensor's noise, in grey levels of 255, of each channel by itself."""
LIGHT = 0.01
"""Share by which a scene becomes lighter from one frame to the next."""
SPEED = 8
"""Pixels that the object moves from one frame to the next."""
OBJECT_SHARE = 5  # the object's side is the frame's shorter side over this

Scene = tuple[list[Frame], list[npt.NDArray[np.bool_]]]
"""Frames, and of each the positions of the latent, bool [h, w], that differ from those of the frame before by more than
noise."""


def identical(frame: Frame, count: int) -> list[Frame]:
    """The same frame, `count` times."""
    return [frame] * count


def noisy(frame: Frame, count: int) -> list[Frame]:
    """A frame with the noise of a sensor that is new in each; the same noise at each call."""
    random = np.random.default_rng(0)
    return [_rounded(frame + NOISE * random.standard_normal(frame.shape, np.float32)) for _ in range(count)]


def lighter(frame: Frame, count: int) -> list[Frame]:
    """A frame that becomes lighter by LIGHT each time, from a little darker than it is: less of it saturates."""
    return [_rounded(frame * np.float32(1 + LIGHT * (index - count / 2))) for index in range(count)]


def turned(frame: Frame, count: int, speed: int) -> list[Frame]:
    """A part of a frame, as a camera sees it that turns to the right by so many pixels each time."""
    width = frame.shape[1] - speed * (count - 1)
    return [np.ascontiguousarray(frame[:, speed * index : speed * index + width]) for index in range(count)]


def crossed(frame: Frame, count: int, speed: int = SPEED) -> Scene:
    """A frame that its own middle crosses as an object, `speed` pixels to the right each time."""
    height, width = frame.shape[:2]
    side = min(height, width) // OBJECT_SHARE
    top, left = (height - side) // 2, (width - side) // 2
    patch, lower = frame[top : top + side, left : left + side, ::-1], min(height - side, top + side // 2)
    frames, touched = [], []
    for index in range(count):
        picture, here = frame.copy(), np.zeros((height, width), bool)
        start = min(width - side, width // 8 + speed * index)
        picture[lower : lower + side, start : start + side] = patch
        here[lower : lower + side, max(0, start - speed) : start + side] = True
        frames.append(picture)
        touched.append(positions_of(here))
    return frames, touched


def scenes(frame: Frame, count: int) -> dict[str, Scene]:
    """All of them by name, of so many frames each."""
    shape = -(-frame.shape[0] // STRIDE), -(-frame.shape[1] // STRIDE)
    nothing, all_of_it = np.zeros(shape, bool), np.ones(shape, bool)
    return {
        "identical": (identical(frame, count), [nothing] * count),
        "noise": (noisy(frame, count), [nothing] * count),
        "light": (lighter(frame, count), [all_of_it] * count),
        "object": crossed(frame, count),
    }


def positions_of(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Positions of the latent, bool [h, w], in whose pixels any of bool [H, W] is true."""
    rows, columns = (np.arange(0, side, STRIDE) for side in pixels.shape)
    return np.asarray(np.logical_or.reduceat(np.logical_or.reduceat(pixels, rows, 0), columns, 1))


def _rounded(values: npt.NDArray[np.floating]) -> Frame:
    return np.rint(values.clip(0, 255)).astype(np.uint8)
