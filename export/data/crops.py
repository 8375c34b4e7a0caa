"""Random crops of photographs, which are decoded once and kept in the memory of the device that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgesem.errors import InputError
from export.data.pack import training_pictures

_CPU = torch.device("cpu")
LEAST_CROP = 176  # pixels a side, of which MS-SSIM has five scales


def fitting_crop(data: Path, most: int, room: float = 1.0, least: int = 16) -> int:
    """The side of the largest crop, a multiple of 16 up to `most`, that fits into some picture of a folder or pack.

    room: how many times that side the picture must have on its short side. Raises InputError if not even `least` fits.
    """
    side = 0
    for _, frame in training_pictures(data):
        side = max(side, int(min(frame.shape[:2]) / room) // 16 * 16)
        if side >= most:
            return most
    if side < least:
        needed = round(least * room)
        raise InputError(f"the pictures of {data} are too small: one must have {needed} pixels on its short side")
    return side


class Crops:
    """Square crops at full, three-quarter and half size (a smaller copy also hides JPEG traces), randomly mirrored.

    data: folder of photographs, or a packed file of them. Crops are cut, and stay, on `device`. Raises InputError if no
    photograph is large enough.
    """

    def __init__(
        self,
        data: Path,
        crop: int,
        seed: int,
        shrink: tuple[float, ...] = (1.0, 0.75, 0.5),
        device: torch.device = _CPU,
    ) -> None:
        self.crop, self.seed, self.random = crop, seed, np.random.default_rng(seed)
        self.pictures: list[Tensor] = []  # uint8 [H, W, 3]
        for _, frame in training_pictures(data):
            full = Image.fromarray(frame)
            for factor in shrink:
                size = (round(full.width * factor), round(full.height * factor))
                if min(size) >= crop:
                    small = np.array(full.resize(size, Image.Resampling.LANCZOS))
                    self.pictures.append(torch.from_numpy(small).to(device))
        if not self.pictures:
            raise InputError(f"no picture under {data} is at least {crop} pixels on its short side")
        areas = np.array([p.shape[0] * p.shape[1] for p in self.pictures], float)
        self.weights = np.sqrt(areas) / np.sqrt(areas).sum()

    def restart(self, step: int) -> None:
        """Draw other crops than a run drew that is continued from `step`."""
        self.random = np.random.default_rng([self.seed, step])

    def batch(self, count: int) -> Tensor:
        """float32 [count, 3, crop, crop], RGB 0..1."""
        crops = []
        for index in self.random.choice(len(self.pictures), count, p=self.weights):
            picture = self.pictures[index]
            top = self.random.integers(picture.shape[0] - self.crop + 1)
            left = self.random.integers(picture.shape[1] - self.crop + 1)
            crop = picture[top : top + self.crop, left : left + self.crop]
            crops.append(crop.flip(1) if self.random.random() < 0.5 else crop)
        return torch.stack(crops).permute(0, 3, 1, 2).float() / 255

    def varied_batch(self, count: int) -> Tensor:
        """A batch as every training sees it: a share of the pictures dull, and a share as by night; channels last."""
        frames = infrared(overcast(self.batch(count)))
        return frames.contiguous(memory_format=torch.channels_last)


def overcast(frames: Tensor, share: float = 0.2) -> Tensor:
    """A `share` of the pictures, float32 [B,3,H,W] 0..1, with less contrast, brighter or darker: asphalt, fog.

    Photographs that people keep have few such scenes, and a decoder that had seen only those drew a car park 2 to 8
    grey levels too dark.
    """
    chosen, contrast, shift = torch.rand(3, len(frames), 1, 1, 1, device=frames.device)
    mean = frames.mean((1, 2, 3), keepdim=True)
    flat = mean + (0.25 + 0.65 * contrast) * (frames - mean) + 0.3 * (shift - 0.5)
    return torch.where(chosen < share, flat.clamp(0, 1), frames)


def infrared(frames: Tensor, share: float = 0.08) -> Tensor:
    """A `share` of the pictures, float32 [B,3,H,W] 0..1, in grey, with the noise of a sensor: cameras at night."""
    chosen, strength = torch.rand(2, len(frames), 1, 1, 1, device=frames.device)
    grey = (frames * frames.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    noisy = grey + 0.03 * strength * torch.randn_like(grey)
    return torch.where(chosen < share, noisy.clamp(0, 1).expand_as(frames), frames)
