"""Training sequences: latents of pictures that follow one another, from clips and made of photographs.

A made sequence is a window that drifts a little over a photograph, perhaps zooms, under light and noise that change,
with a piece of another photograph that moves across it: what a camera on a wall or a mast sees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from edgesem.entropy.schedule import STRIDE
from edgesem.errors import InputError
from edgesem.quality.metrics import Frame
from edgesem.video import find_videos
from export.data.clips import background_of, read_clip
from export.data.crops import Crops

LENGTH = 8  # pictures of a sequence
_FRAMES_S = 10.0  # frames a second that are taken of a clip
_SHORTEST_S, _LONGEST_S = 0.1, 4.0  # between two pictures of a sequence
_FROM_BACKGROUND = 0.25  # share of a clip's sequences that begin with its background picture


ROOM = 1.5  # a photograph has so many times the side of a sequence made of it, for the view to move in


class Sequences:
    """Sequences of LENGTH latents, ever new ones.

    `encoder` is run once for each picture, without gradients. Of a clip, only the part of its time before `until` is
    used, so that the rest stays to measure on.
    """

    def __init__(
        self,
        encoder: nn.Module,
        photographs: Path,
        clips: Path | None,
        *,
        crop: int = 256,
        from_clips: float = 0.5,
        until: float = 0.6,
        seed: int = 0,
    ) -> None:
        self._encoder, self._crop, self._side = encoder.eval(), crop, crop // STRIDE
        self._device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
        self._random = np.random.default_rng([seed, 7])
        self._crops = Crops(photographs, round(ROOM * crop), seed, shrink=(1.0, 0.75))
        self._clips = [] if clips is None else [self._read_clip(path, until) for path in find_videos(clips)]
        self._from_clips = from_clips if self._clips else 0.0

    def restart(self, step: int) -> None:
        """Draw others than a run drew that is continued from `step`."""
        self._random = np.random.default_rng([int(self._random.integers(2**31)), step])
        self._crops.restart(step)

    def next(self) -> Tensor:
        """A new sequence, float32 [LENGTH, 96, side, side]."""
        if self._random.random() < self._from_clips:
            return self._of_clip().float()
        return self._encode(self.made()).float()

    def made(self) -> npt.NDArray[np.float32]:
        """One sequence of pictures from photographs, float32 [LENGTH, 3, crop, crop], 0..1."""
        random, crop = self._random, self._crop
        scene, other = self._crops.batch(2).permute(0, 2, 3, 1).numpy()
        still = random.random() < 0.4
        drift = np.zeros(2) if still else random.normal(0, 1, 2) * 10 ** random.uniform(-0.7, 1.2)
        zoom = 1.0 if still or random.random() < 0.5 else 1 + random.normal(0, 0.01)
        light = 0.0 if random.random() < 0.5 else random.normal(0, 0.05)
        noise = 0.0 if random.random() < 0.4 else 10 ** random.uniform(-2.7, -1.6)
        patch = None if random.random() < 0.4 else _MovingPatch(random, other, crop)
        centre = np.array([scene.shape[0], scene.shape[1]]) / 2
        centre = centre + random.uniform(-1, 1, 2) * crop / 8
        frames = []
        for index in range(LENGTH):
            view = _window(scene, centre + drift * index, crop, zoom**index)
            view = view * (1 + light * index)
            if patch is not None:
                view = patch.drawn_on(view, index)
            if noise:
                view = view + noise * random.standard_normal(view.shape, np.float32)
            frames.append(np.rint(view.clip(0, 1) * 255) / 255)
        if random.random() < 0.05:  # a cut: another scene
            frames[-1] = _window(other, centre, crop, 1.0).clip(0, 1)
        if random.random() < 0.5:
            frames = frames[::-1]
        return np.stack(frames).transpose(0, 3, 1, 2).astype(np.float32)

    def _of_clip(self) -> Tensor:
        random = self._random
        latents, background, rate = self._clips[random.integers(len(self._clips))]
        longest = min(_LONGEST_S, (len(latents) - 1) / (LENGTH - 1) / rate)
        gap = max(1, int(rate * _SHORTEST_S * (longest / _SHORTEST_S) ** random.random()))
        first = random.integers(max(1, len(latents) - gap * (LENGTH - 1)))
        top = random.integers(latents.shape[2] - self._side + 1)
        left = random.integers(latents.shape[3] - self._side + 1)
        part = latents[first : first + gap * (LENGTH - 1) + 1 : gap]
        if random.random() < _FROM_BACKGROUND:
            part = torch.cat([background[None], part[1:]])
        return part[:, :, top : top + self._side, left : left + self._side]

    def _encode(self, frames: npt.NDArray[np.float32]) -> Tensor:
        with torch.no_grad():
            return self._encoder(torch.from_numpy(frames).to(self._device)).half()

    def _read_clip(self, path: Path, until: float) -> tuple[Tensor, Tensor, float]:
        """Latents [n, 96, h, w] of a clip's first part, that of its background picture, and how many a second."""
        frames, rate = read_clip(path, rate_hz=_FRAMES_S, stop=until)
        if len(frames) < LENGTH or min(frames[0].shape[:2]) < self._crop:
            raise InputError(f"{path}: needs {LENGTH} frames of {self._crop} pixels a side at least")
        latents = [self._encode(_whole(frame))[0] for frame in frames]
        background = self._encode(_whole(background_of(frames)))[0]
        return torch.stack(latents), background, rate


class _MovingPatch:
    """Piece of a photograph that moves across another."""

    def __init__(self, random: np.random.Generator, source: npt.NDArray[np.float32], crop: int) -> None:
        height, width = random.integers(crop // 12, crop // 2, 2)
        top, left = random.integers(source.shape[0] - height), random.integers(source.shape[1] - width)
        self._piece = source[top : top + height, left : left + width]
        self._place = random.uniform(-0.2, 0.9, 2) * crop
        self._speed = random.normal(0, 1, 2) * 10 ** random.uniform(0, 1.8)
        i, j = np.mgrid[:height, :width]
        oval = ((i / height - 0.5) ** 2 + (j / width - 0.5) ** 2)[..., None] < 0.25
        self._mask = oval if random.random() < 0.6 else np.ones_like(oval)
        self._from = int(random.integers(LENGTH)) if random.random() < 0.3 else 0  # some appear later

    def drawn_on(self, view: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float32]:
        """Picture `index` of the sequence, float32 [H, W, 3], with the piece where it is by then."""
        if index < self._from:
            return view
        view = view.copy()
        top, left = np.rint(self._place + self._speed * index).astype(int)
        height, width = self._piece.shape[:2]
        y, x, b, r = max(top, 0), max(left, 0), min(top + height, view.shape[0]), min(left + width, view.shape[1])
        if y < b and x < r:
            inner = np.s_[y - top : b - top, x - left : r - left]
            view[y:b, x:r] = np.where(self._mask[inner], self._piece[inner], view[y:b, x:r])
        return view


def _whole(frame: Frame) -> npt.NDArray[np.float32]:
    """A frame repeated at its edge to whole strides, float32 [1, 3, H, W], 0..1."""
    grown = np.pad(frame, ((0, -frame.shape[0] % STRIDE), (0, -frame.shape[1] % STRIDE), (0, 0)), "edge")
    return np.ascontiguousarray(grown.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def _window(
    scene: npt.NDArray[np.float32], centre: npt.NDArray[np.float64], crop: int, zoom: float
) -> npt.NDArray[np.float32]:
    """Crop of `crop` pixels a side around `centre` (row, column), enlarged `zoom` times: float32 [crop, crop, 3]."""
    reach = crop / zoom / 2
    top, left = np.clip(centre - reach, 0, np.array(scene.shape[:2]) - 2 * reach)
    whole = abs(zoom - 1) < 1e-9 and top == int(top) and left == int(left)
    if whole:
        return scene[int(top) : int(top) + crop, int(left) : int(left) + crop]
    box = (left, top, left + 2 * reach, top + 2 * reach)
    planes = [
        Image.fromarray(plane).resize((crop, crop), Image.Resampling.BICUBIC, box=box)
        for plane in np.moveaxis(scene, 2, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], 2)
