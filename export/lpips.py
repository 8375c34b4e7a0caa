"""LPIPS (AlexNet, v0.1): how different two pictures look to a network trained on human judgements; 0 is equal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgesem.errors import InputError, require
from edgesem.quality import Frame

if TYPE_CHECKING:
    from torch import Tensor

_STRIDE_PAD = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOL_AFTER = (0, 1)
_MEAN, _SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """The measure, with weights from a file that the user has (they do not ship with edgesem).

    The file is an npz with `conv0.w` [64,3,11,11] to `conv4.w` [256,256,3,3], `conv0.b` to `conv4.b`, and the linear
    weights `lin0` [64] to `lin4` [256], as float16 or float32.
    """

    def __init__(self, path: Path) -> None:
        torch = require("torch", "export")
        try:
            data = path.read_bytes()
            with np.load(path) as arrays:
                wanted = [f"conv{i}.{part}" for i in range(5) for part in "wb"] + [f"lin{i}" for i in range(5)]
                self._weights: dict[str, Tensor] = {
                    name: torch.from_numpy(arrays[name].astype(np.float32)) for name in wanted
                }
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path} has no AlexNet LPIPS weights ({error}): name an npz with conv0.w .. lin4"
            ) from error
        self.digest = hashlib.sha256(data).hexdigest()
        """SHA-256 of the weights file."""

    def __call__(self, original: Frame, decoded: Frame) -> float:
        """LPIPS of two pictures uint8 [H, W, 3], RGB, of one size, sides of at least 32."""
        import torch

        with torch.inference_mode():
            total = 0.0
            for k, (a, b) in enumerate(zip(self._features(original), self._features(decoded), strict=True)):
                distance = ((a - b).square() * self._weights[f"lin{k}"].view(1, -1, 1, 1)).sum(1)
                total += float(distance.mean())
        return total

    def _features(self, picture: Frame) -> list[Tensor]:
        """The five layers' features [1, C, h, w], of unit length at each position."""
        import torch
        from torch.nn import functional as F

        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        x = (x - torch.tensor(_MEAN).view(1, 3, 1, 1)) / torch.tensor(_SPREAD).view(1, 3, 1, 1)
        features = []
        for k, (stride, pad) in enumerate(_STRIDE_PAD):
            x = F.relu(F.conv2d(x, self._weights[f"conv{k}.w"], self._weights[f"conv{k}.b"], stride, pad))
            features.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
            if k in _POOL_AFTER:
                x = F.max_pool2d(x, 3, 2)
        return features
