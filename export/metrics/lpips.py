"""LPIPS (Zhang et al. 2018; AlexNet, v0.1): perceptual distance of two pictures; 0 is equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgesem.errors import InputError, require
from edgesem.quality.metrics import Frame

if TYPE_CHECKING:
    from torch import Tensor

_STRIDE_PAD = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOL_AFTER = (0, 1)
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips:
    """The measure, with weights from a file that the user has (they do not ship with edgesem).

    The file is an npz with `conv0.w` [64,3,11,11] to `conv4.w` [256,256,3,3], `conv0.b` to `conv4.b`, and the linear
    weights `lin0` [64] to `lin4` [256], as float16 or float32.
    """

    def __init__(self, path: Path) -> None:
        wanted = [f"conv{i}.{part}" for i in range(5) for part in "wb"] + [f"lin{i}" for i in range(5)]
        self._weights, self.digest = network_weights(path, wanted, "AlexNet LPIPS")
        """The second: SHA-256 of the weights file."""
        self._last: tuple[Frame, list[Tensor]] | None = None  # of an original, which many decoded pictures come from

    def __call__(self, original: Frame, decoded: Frame) -> float:
        """LPIPS of two pictures uint8 [H, W, 3], RGB, of one size, sides of at least 32."""
        import torch

        with torch.inference_mode():
            if self._last is None or self._last[0] is not original:
                self._last = (original, self.features(_planes(original)))
            return float(self.distance(self._last[1], self.features(_planes(decoded))))

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS [B] between two lists of features."""
        return sum(  # type: ignore[return-value]
            ((x.float() - y.float()).square() * self._weights[f"lin{k}"].view(1, -1, 1, 1)).sum(1).mean((1, 2))
            for k, (x, y) in enumerate(zip(a, b, strict=True))
        )

    def features(self, planes: Tensor) -> list[Tensor]:
        """The five layers' features [B, C, h, w], of unit length at each position, of planes float32 [B, 3, H, W].

        The first layer always computes in float32. In bfloat16 a pixel has the precision of a grey level or two, which
        is what two pictures differ by: the gradient's cosine with the real one was 0.84, now it is 0.997.
        """
        import torch
        from torch.nn import functional as F

        x = (planes.float() * 2 - 1 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(SPREAD).view(1, 3, 1, 1)
        features = []
        for k, (stride, pad) in enumerate(_STRIDE_PAD):
            with torch.autocast(x.device.type, enabled=k > 0 and torch.is_autocast_enabled(x.device.type)):
                x = F.relu(F.conv2d(x, self._weights[f"conv{k}.w"], self._weights[f"conv{k}.b"], stride, pad))
            features.append(x / (x.float().square().sum(1, keepdim=True) + 1e-8).sqrt())  # smooth where all is dark
            if k in _POOL_AFTER:
                x = F.max_pool2d(x, 3, 2)
        return features


def network_weights(path: Path, wanted: Sequence[str], what: str) -> tuple[dict[str, Tensor], str]:
    """Arrays of an npz file of the user's as float32, and the file's SHA-256. Raises InputError if it lacks one."""
    torch = require("torch", "export")
    try:
        data = path.read_bytes()
        with np.load(path) as arrays:
            weights = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in wanted}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} has no {what} weights ({error}): name an npz with {wanted[0]} .. {wanted[-1]}"
        ) from error
    return weights, hashlib.sha256(data).hexdigest()


def _planes(picture: Frame) -> Tensor:
    import torch

    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
