"""Semantic head: from the encoder's latent to an embedding that text can be compared with, 28 kMAC a position.

latent [96,h,w] -> squash -> 1x1 -> stride 2 -> block -> stride 2 -> block -> [128,h/4,w/4] -> mean -> embedding
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgesem.entropy.schedule import CHANNELS
from edgesem.semantics.embedding import DIMENSIONS, HEAD
from export.graphs.write import store_half, to_half_precision, write

_STEM, _MIDDLE, _DEEP = 56, 112, 192
_MIDDLE_WIDE, _DEEP_WIDE = 192, 288


class _Layer(nn.Module):
    """Convolution, batch norm and, unless it ends a block, ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, *, relu: bool = True) -> None:
        super().__init__()
        groups = inputs if side > 1 else 1
        self.conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x

    def fuse(self) -> None:
        """Make the batch norm a part of the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class _Block(nn.Module):
    """Inverted residual (MobileNetV2): x + project(depthwise 3x3(expand(x)))."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_Layer(width, wide), _Layer(wide, wide, 3), _Layer(wide, width, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.body(x))


class Head(nn.Module):
    """latent float32 [B,96,h,w] -> embedding [B,128] of length 1.

    scale: float32 [96], what brings each channel to a spread of about 1.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.steps = 0  # that it was trained for
        self.register_buffer("scale", scale.view(1, CHANNELS, 1, 1))
        self.body = nn.Sequential(
            _Layer(CHANNELS, _STEM),
            _Layer(_STEM, _STEM, 3, 2, relu=False),
            _Layer(_STEM, _MIDDLE),
            _Block(_MIDDLE, _MIDDLE_WIDE),
            _Layer(_MIDDLE, _MIDDLE, 3, 2, relu=False),
            _Layer(_MIDDLE, _DEEP),
            _Block(_DEEP, _DEEP_WIDE),
        )
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Conv2d(_DEEP, DIMENSIONS, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Embeddings [B,128] of latents [B,96,h,w]."""
        x = latent * self.scale
        x = 2 * x / (1 + x * x).sqrt()  # a channel of high contrast must not drown the others
        x = self.body(x)
        mean = self.last(self.dropout(F.relu(x))).mean((2, 3))
        return cast(Tensor, mean / (mean.square().sum(1, keepdim=True) + 1e-6).sqrt())

    def fused(self) -> Head:
        """The same network for use: batch norms are part of their convolutions. Changes this one."""
        self.eval()
        for layer in list(self.modules()):
            if isinstance(layer, _Layer):
                layer.fuse()
        return self


def export_head(head: Head, folder: Path) -> None:
    """Write head.onnx: latent float32 [1,96,h,w] -> embedding [1,128]."""
    fused = head.fused()
    to_half_precision(fused)
    write(fused, folder / HEAD, {"latent": torch.rand(1, CHANNELS, 12, 16)}, ["embedding"], {"latent": 1})
    store_half(folder / HEAD)
