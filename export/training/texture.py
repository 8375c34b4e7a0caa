"""Texture losses: local statistics of features. Other leaves of the same tree cost nothing, leaves that are gone do.

    features of VGG16 or of random filters -> means and standard deviations in windows of WINDOW pixels -> distance

The squared 2-Wasserstein distance of the features' distributions in each window, were they normal and independent:
Wasserstein distortion (Qiu, Wagner, Balle and Theis, arXiv 2310.03629; as a loss: arXiv 2412.00505).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from export.metrics.vgg import vgg_features
from export.metrics.weights import network_weights

WINDOW = 16  # pixels a side
SIDE = 112  # of the crops that VGG looks at: all of a picture would take longer than the network that drew it
_DEPTH = 3  # of VGG's features: relu1_2, relu2_2, relu3_3
_OCTAVES = 3
_FILTERS = 16  # random ones of each octave and layer
_TAPS = 7
_QUIET = 0.1  # of the mean energy of a layer's channels, added to each one's: next to silent ones count for little
_SMALL = 1e-3  # of the energy: where next to nothing varies, roots would magnify the noise of rounding


class VggTexture:
    """Distance of local statistics of VGG16's features, with weights from a file that the user has.

    It holds seven convolutions, in a form that `export.metrics.weights` reads. Raises InputError if it does not.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        weights, _ = network_weights(path, [f"conv{i}.{part}" for i in range(7) for part in "wb"], "VGG16")
        self._weights = {name: weight.to(device) for name, weight in weights.items()}

    def distance(self, drawn: Tensor, frame: Tensor) -> Tensor:
        """Distance [B] of pictures float32 [B,3,H,W] from their originals, in a random crop of SIDE pixels."""
        down, right = (int(torch.randint(0, max(1, length - SIDE + 1), ())) for length in drawn.shape[2:])
        drawn, frame = (picture[:, :, down : down + SIDE, right : right + SIDE] for picture in (drawn, frame))
        with torch.no_grad():
            real = vgg_features(frame.float(), self._weights, _DEPTH)
        seen = vgg_features(drawn.float(), self._weights, _DEPTH)
        parts = zip(seen, real, (WINDOW, WINDOW // 2, WINDOW // 4), strict=True)
        return torch.stack([statistics_distance(a, b, window) for a, b, window in parts]).mean(0)


def projected_distance(drawn: Tensor, frame: Tensor) -> Tensor:
    """Distance [B] of local statistics of what random filters see in pictures float32 [B,3,H,W] and their originals.

    Two layers of filters at each of three octaves, other ones at each call: a judge that nobody can learn by heart.
    """
    both = torch.cat([drawn, frame]).float()
    total = both.new_zeros(len(drawn))
    for _ in range(_OCTAVES):
        first = F.conv2d(both, _filters(3, _TAPS).to(both.device), stride=2, padding=_TAPS // 2)
        second = F.conv2d(F.relu(first), _filters(_FILTERS, 3).to(both.device), padding=1)
        for seen in (first, second):
            of_drawn, of_frame = seen.chunk(2)
            total = total + statistics_distance(of_drawn, of_frame, WINDOW // 2)
        both = F.avg_pool2d(both, 2)
    return total / (2 * _OCTAVES)


def statistics_distance(a: Tensor, b: Tensor, window: int) -> Tensor:
    """Mean squared difference [B] of the means and standard deviations of features [B,C,h,w] in windows.

    Relative to the energy of each channel of `b`, the original's; `window` positions a side. In float32, whatever
    autocast says: variances are small differences of squares.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.detach().float()
        energy = b.square().mean((0, 2, 3), keepdim=True)
        size = (energy + _QUIET * energy.mean() + 1e-8).sqrt()
        (mean_a, spread_a), (mean_b, spread_b) = (_statistics(x / size, window) for x in (a, b))
        return ((mean_a - mean_b).square() + (spread_a - spread_b).square()).mean((1, 2, 3))


def _statistics(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of float32 [B,C,h,w] in windows, each [B,C,h/window,w/window]."""
    mean = F.avg_pool2d(x, window)
    return mean, (F.relu(F.avg_pool2d(x.square(), window) - mean.square()) + _SMALL).sqrt()


def _filters(channels: int, taps: int) -> Tensor:
    """Random filters float32 [_FILTERS, channels, taps, taps], each of unit length and without a mean."""
    weight = torch.randn(_FILTERS, channels, taps, taps)
    weight = weight - weight.mean((2, 3), keepdim=True) if channels == 3 else weight
    return weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
