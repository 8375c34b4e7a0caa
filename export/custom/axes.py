"""The directions in which a latent varies most, and the quantizer steps that meet a rate along them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgesem.entropy.schedule import CHANNELS, STRIDE


def principal_axes(folded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], the 96 strongest axes [96, D] (rows of zeros beyond D) and the deviation along each [96]."""
    flat = folded.permute(1, 0, 2, 3).flatten(1).double()
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    variance, axes = torch.linalg.eigh(centred @ centred.T / centred.shape[1])
    count = min(CHANNELS, len(variance))
    basis, std = torch.zeros(CHANNELS, len(variance)), torch.full((CHANNELS,), 1e-6)
    basis[:count] = axes[:, -count:].flip(1).T.float()
    std[:count] = variance[-count:].flip(0).clamp(min=1e-12).sqrt().float()
    return mean.float(), basis, std


def step_of_rate(std: npt.NDArray[np.float32], bpp: float) -> float:
    """The quantizer step at which Gaussian channels of these deviations cost about `bpp` bits a pixel."""
    low, high = 1e-6 * float(std.max()), 1e3 * float(std.max())
    for _ in range(80):
        middle = math.sqrt(low * high)
        bits = float((np.log2(1 + 12 * (std / middle) ** 2) / 2).sum()) / STRIDE**2
        low, high = (middle, high) if bits > bpp else (low, middle)
    return math.sqrt(low * high)
