"""DISTS (Ding et al. 2020): likeness of structure and of texture of two pictures; 0 is equal.

Structure: correlation of a VGG feature over the whole picture; texture: likeness of its mean. Texture that was drawn
anew in other places costs little, texture that is gone costs much.

`Dists` is the published measure. `DistsLike` does without its learned weights and goes as deep as the file does: hold
its numbers for no published DISTS.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgesem.errors import InputError
from edgesem.quality.metrics import Frame
from export.metrics.distance import FeatureDistance, planes_of
from export.metrics.vgg import CONVOLUTIONS, DEPTHS, WIDTHS, vgg_features
from export.metrics.weights import convolutions, network_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

_SIDE = 256  # of the shorter side while looking
_SMALL = 1e-6


class Dists(FeatureDistance):
    """The measure, with weights from files that the user has.

    paths: together VGG16's 13 convolutions (those of torchvision, which the learned weights go with), and `alpha` and
    `beta` [1475] of DISTS. Raises InputError where one is lacking.
    """

    def __init__(self, *paths: Path) -> None:
        wanted = [f"conv{i}.{part}" for i in range(CONVOLUTIONS) for part in "wb"] + ["alpha", "beta"]
        self._weights, self.digest = network_weights(paths, wanted, "DISTS")
        channels = 3 + sum(WIDTHS)
        for name in ("alpha", "beta"):
            if self._weights[name].numel() != channels:
                raise InputError(f"{paths[-1]}: {name} of {self._weights[name].numel()} weights, DISTS has {channels}")
        self._total = self._weights["alpha"].sum() + self._weights["beta"].sum()

    def _seen(self, picture: Frame) -> list[Tensor]:
        planes = planes_of(_small(picture, Image.Resampling.BILINEAR))
        return [planes, *vgg_features(planes, self._weights, len(WIDTHS), smooth=True)]

    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        import torch

        texture, structure = (torch.cat(parts) for parts in zip(*map(_likeness, a, b), strict=True))
        like: Tensor = (self._weights["alpha"] * texture).sum() + (self._weights["beta"] * structure).sum()
        return 1 - like / self._total


class DistsLike(FeatureDistance):
    """A measure in the manner of DISTS, with the first 7 convolutions of VGG16 or more from the user's file.

    All channels of a depth weigh alike, and all depths that the file reaches: 7 convolutions go to relu3_3, 10 to
    relu4_3, 13 to relu5_3.
    """

    def __init__(self, path: Path) -> None:
        arrays, _ = read_weights(path)
        count = convolutions(arrays)
        self.depth = max(3, sum(last < count for last in DEPTHS.values()))
        """How many depths are looked at, 3 to 5."""
        wanted = [f"conv{i}.{part}" for i in range(list(DEPTHS.values())[self.depth - 1] + 1) for part in "wb"]
        self._weights, self.digest = network_weights([path], wanted, "VGG16")

    def _seen(self, picture: Frame) -> list[Tensor]:
        planes = planes_of(_small(picture, Image.Resampling.LANCZOS))
        return [planes, *vgg_features(planes, self._weights, self.depth)]

    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        import torch

        pairs = [_likeness(x, y) for x, y in zip(a, b, strict=True)]
        return 1 - torch.stack([(texture + structure).mean() / 2 for texture, structure in pairs]).mean()


def _small(picture: Frame, by: Image.Resampling) -> Frame:
    """The picture with a shorter side of 256, or as it is where it is smaller."""
    height, width = picture.shape[:2]
    if min(height, width) <= _SIDE:
        return picture
    factor = _SIDE / min(height, width)
    return np.asarray(Image.fromarray(picture).resize((int(width * factor), int(height * factor)), by))


def _likeness(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel [C]: texture (means alike) and structure (values go together), at most 1."""
    a, b = a[0].flatten(1), b[0].flatten(1)
    mean_a, mean_b = a.mean(1), b.mean(1)
    cross = (a * b).mean(1) - mean_a * mean_b
    texture = (2 * mean_a * mean_b + _SMALL) / (mean_a**2 + mean_b**2 + _SMALL)
    structure = (2 * cross + _SMALL) / (a.var(1, correction=0) + b.var(1, correction=0) + _SMALL)
    return texture, structure
