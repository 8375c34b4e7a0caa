"""Features of VGG16 (Simonyan and Zisserman 2015), as LPIPS and DISTS look at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

DEPTHS = {"relu1_2": 1, "relu2_2": 3, "relu3_3": 6, "relu4_3": 9, "relu5_3": 12}
"""Where features are taken: the convolution that stands before."""
CONVOLUTIONS = 13
WIDTHS = (64, 128, 256, 512, 512)
"""Channels at each depth."""
_POOL_BEFORE = (2, 4, 7, 10)
# Of pictures on a scale of -1..1
MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


def scaled(planes: Tensor) -> Tensor:
    """Planes 0..1 as networks trained on ImageNet take them."""
    mean, spread = (planes.new_tensor(part).view(1, 3, 1, 1) for part in (MEAN, SPREAD))
    return (planes * 2 - 1 - mean) / spread


def vgg_features(planes: Tensor, weights: Mapping[str, Tensor], depth: int, *, smooth: bool = False) -> list[Tensor]:
    """Features [B, C, h, w] at the first `depth` of DEPTHS, of planes float32 [B, 3, H, W], 0..1.

    weights: `conv0.w` [64,3,3,3], `conv0.b` and so on. smooth: halve by the root of a blurred square in place of the
    maximum, as DISTS does, which does not alias. The first layer computes in float32 under autocast, too:
    bfloat16 rounds pixels to a grey level or two.
    """
    import torch
    from torch.nn import functional as F

    x, features = scaled(planes), []
    for index in range(list(DEPTHS.values())[depth - 1] + 1):
        if index in _POOL_BEFORE:
            x = _blurred_half(x) if smooth else F.max_pool2d(x, 2)
        with torch.autocast(x.device.type, enabled=index > 0 and torch.is_autocast_enabled(x.device.type)):
            x = F.relu(F.conv2d(x, weights[f"conv{index}.w"], weights[f"conv{index}.b"], padding=1))
        if index in DEPTHS.values():
            features.append(x)
    return features


def _blurred_half(x: Tensor) -> Tensor:
    import torch
    from torch.nn import functional as F

    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
