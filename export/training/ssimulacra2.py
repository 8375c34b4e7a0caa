"""SSIMULACRA2 as a differentiable loss: distance of a picture from its original.

The metric (Sneyers 2022, github.com/cloudinary/ssimulacra2) compares blurred means, variances and edges of three XYB
planes at six scales, and adds up 108 weighted figures:

    RGB -> light -> half size, scale after scale -> X, Y, B -> blur -> SSIM map, edges that were added or lost -> norms

All but two dozen of its weights are next to nothing. Those are left out here, and with them the sixth scale and one
plane of the second. The first scale is left out too: it weighs little and would take most of the time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgesem.quality.ssimulacra2 import ABSORBANCE, BIAS, BLUR, C2, POWER, RINGING, SSIM, WEIGHTS, on_scale
from export.training.losses import blur

_LARGE = 0.9  # weights from here on count
_X, _Y, _B = range(3)
# scale -> planes that count there; (scale, plane, map, whether it is the fourth norm) -> weight
_PLANES = ((), (_X, _Y), (_X, _Y, _B), (_X, _Y, _B), (_X, _Y, _B))
_WEIGHTS = {
    (scale, plane, kind, fourth): weight
    for place, weight in WEIGHTS.items()
    for plane, scale, fourth, kind in [map(int, np.unravel_index(place, (3, 6, 2, 3)))]
    if weight > _LARGE and scale < len(_PLANES) and plane in _PLANES[scale]
}


def distance(picture: Tensor, original: Tensor) -> Tensor:
    """100 less the score, float32 [B], of pictures float32 [B,3,H,W], RGB 0..1, sides a multiple of 16.

    Without bound upwards. About 9, not 0, for equal pictures: fourth roots are kept smooth at zero, so that their
    gradient is finite.
    """
    with torch.autocast(picture.device.type, enabled=False):
        both = _linear(torch.cat([picture.float(), original.float()]))
        total = both.new_zeros(len(picture))
        for scale, planes in enumerate(_PLANES):
            if not planes:
                continue
            both = F.avg_pool2d(both, 2)
            a, b = _xyb(both, planes).chunk(2)
            mean_a, mean_b, square_a, square_b, cross = blur(torch.cat([a, b, a * a, b * b, a * b], 1)).chunk(5, 1)
            near = 1 - (mean_a - mean_b).square()
            shape = (2 * (cross - mean_a * mean_b) + C2) / (square_a - mean_a**2 + square_b - mean_b**2 + C2)
            edges = (1 + (a - mean_a).abs()) / (1 + (b - mean_b).abs()) - 1
            maps = {SSIM: F.relu(1 - near * shape), RINGING: F.relu(edges), BLUR: F.relu(-edges)}
            for (where, plane, kind, fourth), weight in _WEIGHTS.items():
                if where == scale:
                    one = maps[kind][:, planes.index(plane)]
                    norm = (one**4).mean((1, 2)).add(1e-12) ** 0.25 if fourth else one.mean((1, 2))
                    total = total + weight * norm
        return 10 * on_scale(total).clamp(min=1e-3) ** POWER


def _linear(picture: Tensor) -> Tensor:
    """Light of sRGB values, within 0.002 of IEC 61966-2-1, by a polynomial: powers take five times as long."""
    x = picture.clamp(0, 1)
    return x * (x * (x * 0.305306011 + 0.682171111) + 0.012522878)


def _xyb(linear: Tensor, planes: tuple[int, ...]) -> Tensor:
    """The named planes of XYB, shifted to be positive, [B,n,H,W]."""
    cones = torch.einsum("oc,bchw->bohw", linear.new_tensor(ABSORBANCE), linear) + BIAS
    left, middle, short = (cones ** (1 / 3) - BIAS ** (1 / 3)).unbind(1)
    y = (left + middle) / 2
    made = {_X: lambda: (left - middle) * 7 + 0.42, _Y: lambda: y + 0.01, _B: lambda: short - y + 0.55}
    return torch.stack([made[plane]() for plane in planes], 1)
