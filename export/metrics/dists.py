"""Perceptual distance in the manner of DISTS (Ding et al. 2020): likeness of structure and of texture.

Structure: correlation of a VGG feature over the whole picture; texture: likeness of its mean. Texture that was drawn
anew in other places costs little, texture that is gone costs much. Here all features weigh alike, where DISTS has
learned weights, and the network ends at relu3_3: hold the numbers for no published DISTS.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgesem.quality.metrics import Frame
from export.metrics.lpips import MEAN, SPREAD, network_weights

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 256  # of the shorter side while looking, as DISTS does
_LOOK_AFTER = (1, 3, 6)  # relu1_2, relu2_2, relu3_3
_POOL_BEFORE = (2, 4)
_SMALL = 1e-6


class DistsLike:
    """The measure, with weights from a file that the user has (they do not ship with edgesem).

    The file is an npz with `conv0.w` [64,3,3,3] to `conv6.w` [256,256,3,3] and `conv0.b` to `conv6.b` of VGG16.
    """

    def __init__(self, path: Path) -> None:
        wanted = [f"conv{i}.{part}" for i in range(7) for part in "wb"]
        self._weights, self.digest = network_weights(path, wanted, "VGG16")
        """The second: SHA-256 of the weights file."""
        self._last: tuple[Frame, list[Tensor]] | None = None  # of an original, which many decoded pictures come from

    def __call__(self, original: Frame, decoded: Frame) -> float:
        """0 (equal) to about 1, of two pictures uint8 [H, W, 3], RGB, of one size."""
        import torch

        with torch.inference_mode():
            if self._last is None or self._last[0] is not original:
                self._last = (original, self._features(original))
            likeness = [_likeness(a, b) for a, b in zip(self._last[1], self._features(decoded), strict=True)]
            return float(1 - torch.stack(likeness).mean())

    def _features(self, picture: Frame) -> list[Tensor]:
        """The picture itself and the features of three depths, each [C, positions]."""
        import torch
        from torch.nn import functional as F

        factor = min(1.0, _SIDE / min(picture.shape[:2]))
        size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
        small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        planes = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255
        x = (planes * 2 - 1 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)
        features = [planes[0].flatten(1)]
        for k in range(7):
            if k in _POOL_BEFORE:
                x = F.max_pool2d(x, 2)
            x = F.relu(F.conv2d(x, self._weights[f"conv{k}.w"], self._weights[f"conv{k}.b"], padding=1))
            if k in _LOOK_AFTER:
                features.append(x[0].flatten(1))
        return features


def _likeness(a: Tensor, b: Tensor) -> Tensor:
    """Mean over channels of texture (means alike) and structure (values go together), a scalar of at most 1."""
    mean_a, mean_b = a.mean(1), b.mean(1)
    cross = (a * b).mean(1) - mean_a * mean_b
    texture = (2 * mean_a * mean_b + _SMALL) / (mean_a**2 + mean_b**2 + _SMALL)
    structure = (2 * cross + _SMALL) / (a.var(1, correction=0) + b.var(1, correction=0) + _SMALL)
    return (texture + structure).mean() / 2
