"""Uncertainty map: how far several samples of the flow decoder lie apart, pixel by pixel.

Where it is high, the packet left the choice to the decoder.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesem.codec.codec import Codec
from edgesem.codec.frames import Frame
from edgesem.codec.latent import Latent
from edgesem.errors import UsageError

SAMPLES = 6
BLOCK = 8  # pixels on a side over which a map, and an error that it is compared with, are averaged

Map = npt.NDArray[np.float32]


def spread(codec: Codec, latent: Latent, *, steps: int = 1, samples: int = SAMPLES, seed: int = 0) -> Map:
    """Standard deviation of each pixel over samples with seeds from `seed` on, mean of the colours: float32 [H, W].

    UsageError if the bundle has no flow decoder, for then every sample is the same.
    """
    if not codec.has_flow:
        raise UsageError(
            "an uncertainty map is the spread of several samples, and this bundle has no flow decoder: "
            "name a bundle that has one"
        )
    if steps < 1 or samples < 2:
        raise UsageError(f"an uncertainty map needs steps and samples, got {steps} steps and {samples} samples")
    total = np.zeros((latent.height, latent.width, 3), np.float64)
    squares = np.zeros_like(total)
    for index in range(samples):
        picture = codec.synthesize(latent, steps=steps, seed=seed + index).astype(np.float64)
        total += picture
        squares += picture**2
    variance = np.maximum(squares / samples - (total / samples) ** 2, 0)
    return np.asarray(np.sqrt(variance).mean(axis=2), np.float32)


def show(found: Map) -> Frame:
    """A map as a picture, uint8 [H, W, 3]: black where all samples agree, through red and yellow to white."""
    smooth = blocks(found).repeat(BLOCK, 0).repeat(BLOCK, 1)[: found.shape[0], : found.shape[1]]
    heat = 3 * smooth / max(float(np.quantile(smooth, 0.99)), 1e-3)
    return np.asarray(np.rint(255 * np.stack([heat, heat - 1, heat - 2], axis=2).clip(0, 1)), np.uint8)


def blocks(values: Map) -> Map:
    """Means over blocks of 8x8; what does not fill a block at the edge is repeated."""
    padded = np.pad(values, ((0, -values.shape[0] % BLOCK), (0, -values.shape[1] % BLOCK)), "edge")
    rows, columns = padded.shape[0] // BLOCK, padded.shape[1] // BLOCK
    return np.asarray(padded.reshape(rows, BLOCK, columns, BLOCK).mean((1, 3)), np.float32)


def error(original: Frame, decoded: Frame) -> Map:
    """Absolute difference of two pictures, mean of the colours: float32 [H, W]."""
    return np.asarray(np.abs(original.astype(np.float32) - decoded.astype(np.float32)).mean(axis=2))


def spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Spearman's rank correlation, -1 to 1, ties at their mean rank; 0 if one of the two is constant."""
    ranks = [_ranks(values.ravel()) for values in (a, b)]
    x, y = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def _ranks(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: npt.NDArray[np.float64] = ends - (counts - 1) / 2
    return np.asarray(mean[inverse.ravel()])


def busy(picture: Frame) -> Map:
    """Absolute gradient of a picture's grey levels, float32 [H, W]: the map that needs no samples, to compare with."""
    grey = picture.astype(np.float32).mean(axis=2)
    across, down = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])), np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    return np.asarray(across + down, np.float32)
