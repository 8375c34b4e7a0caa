"""Rate of symbols and MS-SSIM of pictures, both differentiable: the terms of the training loss."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from edgesem.entropy.tables import SCALES, SMALLEST_WIDTH, WIDTH_RATIO
from edgesem.quality.metrics import MS_SSIM_WEIGHTS


def symbol_bits(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of a residual under the logistic law of its scale index (the shape that the tables start from).

    residual: float32, quantizer steps; scale: 0..63. Same shape out.
    """
    width = SMALLEST_WIDTH * WIDTH_RATIO ** scale.clamp(0, SCALES - 1)
    away = residual.abs()  # the law is symmetric, and differences of small tails are exact
    mass = torch.sigmoid((0.5 - away) / width) - torch.sigmoid((-0.5 - away) / width)
    return -torch.log2(mass.clamp(min=2.0**-20)) + F.relu(away - 20 * width) * 0.1


def rate(residual: Tensor, scale: Tensor) -> Tensor:
    """Bits of the symbols that a residual is rounded to, with gradients that rounding would not give.

    Value and the gradient for `scale` are those of the real, rounded symbol. The gradient for `residual` is the real
    step in bits across the next place where rounding jumps, spread over a quarter on either side of it: so values that
    stay zero feel nothing. (Uniform noise in place of rounding, as in Balle et al. 2017, would push every one of them
    towards zero, which at a low rate is nearly all, and drowns what few symbols really cost.)
    """
    centre = residual.detach()
    bits = symbol_bits(centre.round(), scale)
    with torch.no_grad():
        slope = 2 * (symbol_bits((centre + 0.25).round(), scale) - symbol_bits((centre - 0.25).round(), scale))
    return bits + (residual - centre) * slope


def psnr_db(mse: Tensor) -> float:
    """Mean PSNR in dB of pictures 0..1, from the mean squared error of each, [B]."""
    return float(-10 * torch.log10(mse.detach().clamp(min=1e-9)).mean())


def ms_ssim(a: Tensor, b: Tensor, *, every: int = 1) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003), [B], of pictures float32 [B,C,H,W], 0..1.

    Sides of at least 176. `every` second or third row and column of the finest scale stand for all: half or a third of
    the time. Always in float32: variances are small differences of squares, and in bfloat16 their gradient has next to
    nothing to do with the real one (cosine 0.2).
    """

    def valid(x: Tensor, every: int = 1) -> Tensor:
        down, across = _gaussian(x.shape[2])[::every].to(x), _gaussian(x.shape[3])[::every].to(x)
        return down @ x @ across.T  # banded matrix products: several times faster than depthwise convolution on a CPU

    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float().contiguous(), b.float().contiguous()
        product = torch.ones(a.shape[:2], device=a.device)
        for level, weight in enumerate(MS_SSIM_WEIGHTS):
            moments = valid(torch.cat([a, b, a * a, b * b, a * b], 1), 1 if level else every)
            mean_a, mean_b, square_a, square_b, cross = moments.chunk(5, 1)
            contrast = (2 * (cross - mean_a * mean_b) + 9e-4) / (square_a - mean_a**2 + square_b - mean_b**2 + 9e-4)
            if level == len(MS_SSIM_WEIGHTS) - 1:
                contrast = contrast * (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            product = product * F.relu(contrast.mean((2, 3))).clamp(min=1e-4) ** weight
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return product.mean(1)


def blur(planes: Tensor) -> Tensor:
    """Planes [B,C,H,W] filtered by the Gaussian of sigma 1.5, zeros beyond the border."""
    down, across = (_gaussian(side + 10)[:, 5:-5].to(planes) for side in planes.shape[2:])
    return down @ planes @ across.T


@lru_cache(maxsize=16)
def _gaussian(size: int) -> Tensor:
    """Valid filtering by the 11-tap Gaussian of sigma 1.5 as a matrix, float32 [size - 10, size]."""
    taps = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    rows = torch.zeros(size - 10, size)
    for row in range(size - 10):
        rows[row, row : row + 11] = taps
    return rows
