"""LPIPS (Zhang et al. 2018, v0.1): perceptual distance of two pictures; 0 is equal. By AlexNet, or by VGG16."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgesem.quality.metrics import Frame
from export.metrics.distance import FeatureDistance, planes_of
from export.metrics.vgg import CONVOLUTIONS, WIDTHS, scaled, vgg_features
from export.metrics.weights import network_weights

if TYPE_CHECKING:
    from torch import Tensor

_STRIDE_PAD = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOL_AFTER = (0, 1)


class Lpips(FeatureDistance):
    """The measure by AlexNet, with weights from a file that the user has.

    The file has `conv0.w` [64,3,11,11] to `conv4.w` [256,256,3,3], `conv0.b` to `conv4.b`, and the linear weights
    `lin0` [64] to `lin4` [256].
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        wanted = [f"conv{i}.{part}" for i in range(5) for part in "wb"] + [f"lin{i}" for i in range(5)]
        weights, self.digest = network_weights(path, wanted, "AlexNet LPIPS")
        self._weights = {name: weight.to(device) for name, weight in weights.items()}

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS [B] between two lists of features."""
        return _weighed(a, b, self._weights)

    def features(self, planes: Tensor) -> list[Tensor]:
        """The five layers' features [B, C, h, w], of unit length at each position, of planes float32 [B, 3, H, W].

        The first layer always computes in float32. In bfloat16 a pixel has the precision of a grey level or two, which
        is what two pictures differ by: the gradient's cosine with the exact one is then 0.84, and 0.997 in float32.
        """
        import torch
        from torch.nn import functional as F

        x, features = scaled(planes.float()), []
        for k, (stride, pad) in enumerate(_STRIDE_PAD):
            with torch.autocast(x.device.type, enabled=k > 0 and torch.is_autocast_enabled(x.device.type)):
                x = F.relu(F.conv2d(x, self._weights[f"conv{k}.w"], self._weights[f"conv{k}.b"], stride, pad))
            features.append(x / (x.float().square().sum(1, keepdim=True) + 1e-8).sqrt())  # smooth where all is dark
            if k in _POOL_AFTER:
                x = F.max_pool2d(x, 3, 2)
        return features

    def _seen(self, picture: Frame) -> list[Tensor]:
        return self.features(planes_of(picture))

    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return self.distance(a, b)


class LpipsVgg(FeatureDistance):
    """The measure by VGG16, with weights from files that the user has.

    paths: together VGG16's 13 convolutions (those of torchvision) and LPIPS's linear weights `lin0` [64] to `lin4`
    [512]. Raises InputError where one is lacking.
    """

    def __init__(self, *paths: Path) -> None:
        wanted = [f"conv{i}.{part}" for i in range(CONVOLUTIONS) for part in "wb"] + [f"lin{i}" for i in range(5)]
        self._weights, self.digest = network_weights(paths, wanted, "VGG16 LPIPS")

    def _seen(self, picture: Frame) -> list[Tensor]:
        features = vgg_features(planes_of(picture), self._weights, len(WIDTHS))
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in features]

    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        return _weighed(a, b, self._weights)


def _weighed(a: list[Tensor], b: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
    return sum(  # type: ignore[return-value]
        ((x.float() - y.float()).square() * weights[f"lin{k}"].view(1, -1, 1, 1)).sum(1).mean((1, 2))
        for k, (x, y) in enumerate(zip(a, b, strict=True))
    )
