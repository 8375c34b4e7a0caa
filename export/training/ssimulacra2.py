"""SSIMULACRA2 as a differentiable loss: distance of a picture from its original.

The metric (Sneyers 2022, github.com/cloudinary/ssimulacra2) compares blurred means, variances and edges of three XYB
planes at six scales, and adds up 108 weighted figures:

    RGB -> light -> half size, scale after scale -> X, Y, B -> blur -> SSIM map, edges that were added or lost -> norms

All but 21 of its weights are next to nothing. Those are left out here, and with them the sixth scale and one plane of
the second. The first scale is left out too: it weighs little and would take most of the time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from export.training.losses import blur

_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
_BIAS = 0.0037930732552754493  # of the cones' answer to light, ISO/IEC 18181-1
_C2 = 0.0009
_SSIM, _ARTIFACT, _DETAIL = 0, 1, 2
_X, _Y, _B = 0, 1, 2
# scale -> planes that count there; (scale, plane, kind, 1 for the mean or 4 for the fourth norm) -> weight
_PLANES = ((), (_X, _Y), (_X, _Y, _B), (_X, _Y, _B), (_X, _Y, _B))
_WEIGHTS = {
    (1, _X, _SSIM, 4): 1.1041726426657346,
    (1, _Y, _SSIM, 4): 6.683678146179332,
    (1, _Y, _DETAIL, 4): 1.027889937768264,
    (2, _X, _SSIM, 4): 1.8422455520539298,
    (2, _X, _ARTIFACT, 4): 11.441172603757666,
    (2, _Y, _SSIM, 1): 225.20515300849274,
    (2, _Y, _SSIM, 4): 19.213238186143016,
    (3, _X, _SSIM, 4): 1.8787594979546387,
    (3, _X, _ARTIFACT, 4): 10.94906990605142,
    (3, _Y, _SSIM, 1): 176.39317598450694,
    (3, _Y, _SSIM, 4): 24.43300999870476,
    (3, _B, _SSIM, 4): 8.826982764996862,
    (3, _B, _ARTIFACT, 4): 23.19243343998926,
    (4, _X, _ARTIFACT, 1): 0.9677937080626833,
    (4, _Y, _SSIM, 4): 34.77906344483772,
    (4, _Y, _ARTIFACT, 4): 44.835625328877896,
    (4, _B, _SSIM, 1): 95.1080498811086,
    (4, _B, _ARTIFACT, 1): 0.9863978034400682,
    (4, _B, _ARTIFACT, 4): 171.2667255897307,
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
            shape = (2 * (cross - mean_a * mean_b) + _C2) / (square_a - mean_a**2 + square_b - mean_b**2 + _C2)
            edges = (1 + (a - mean_a).abs()) / (1 + (b - mean_b).abs()) - 1
            maps = {_SSIM: F.relu(1 - near * shape), _ARTIFACT: F.relu(edges), _DETAIL: F.relu(-edges)}
            for (where, plane, kind, norm), weight in _WEIGHTS.items():
                if where == scale:
                    one = maps[kind][:, planes.index(plane)]
                    mean = one.mean((1, 2)) if norm == 1 else (one**4).mean((1, 2)).add(1e-12) ** 0.25
                    total = total + weight * mean
        total = 0.9562382616834844 * total
        total = 2.326765642916932 * total - 0.020884521182843837 * total**2 + 6.248496625763138e-05 * total**3
        return 10 * total.clamp(min=1e-3) ** 0.6276336467831387


def _linear(picture: Tensor) -> Tensor:
    """Light of sRGB values, within 0.002 of IEC 61966-2-1, by a polynomial: powers take five times as long."""
    x = picture.clamp(0, 1)
    return x * (x * (x * 0.305306011 + 0.682171111) + 0.012522878)


def _xyb(linear: Tensor, planes: tuple[int, ...]) -> Tensor:
    """The named planes of XYB, shifted to be positive, [B,n,H,W]."""
    cones = torch.einsum("oc,bchw->bohw", linear.new_tensor(_ABSORBANCE), linear) + _BIAS
    left, middle, short = (cones ** (1 / 3) - _BIAS ** (1 / 3)).unbind(1)
    y = (left + middle) / 2
    made = {_X: lambda: (left - middle) * 7 + 0.42, _Y: lambda: y + 0.01, _B: lambda: short - y + 0.55}
    return torch.stack([made[plane]() for plane in planes], 1)
