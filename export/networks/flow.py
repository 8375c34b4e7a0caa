"""Flow decoder: a conditional rectified flow from the base picture to a real one (Liu et al. 2022, x-prediction).

    state at time t = (1 - t) * (base + noise) + t * real         real as the network expects it: `picture`
    one of n steps:  state += (picture - state) / (n - k)         (an Euler step along the straight path)

The network gets the state, the base picture, the latent, its quality and the time, and starts by giving back the base
picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.entropy.schedule import CHANNELS
from export.networks.attention import stack
from export.networks.codec import ResidualBlock, bend, start_at_zero


def planes_of(quality: Tensor, time: Tensor, x: Tensor) -> Tensor:
    """Quality and time [B,1,1,1] as two planes [B,2,H,W] of the size of `x`."""
    batch, _, height, width = x.shape
    return torch.cat([part.expand(batch, 1, height, width) for part in (quality, time)], 1)


class FlowDecoder(nn.Module):
    """Convolutional network on the 4x4-unshuffled picture, with attention at stride 16.

    24 kMAC/pixel a step and 2.4 M parameters at the default widths.
    """

    channel_std: Tensor

    def __init__(self, widths: tuple[int, int, int] = (64, 128, 192), attention: int = 3) -> None:
        super().__init__()
        a, b, c = widths
        self.register_buffer("channel_std", torch.ones(1, CHANNELS, 1, 1))
        self.stem = nn.Conv2d(2 * 48 + 2, a, 3, padding=1)
        self.down = nn.Conv2d(a, b, 2, stride=2)
        self.middle = ResidualBlock(b)
        self.deep = nn.Conv2d(b, c, 2, stride=2)
        self.latent = nn.Conv2d(CHANNELS + 2, c, 1)
        self.stage = stack(c, attention)
        self.up = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(c, 4 * b, 1), nn.PixelShuffle(2))
        self.wide = ResidualBlock(b)
        self.rise = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2))
        self.fine = ResidualBlock(a)
        self.last = nn.Conv2d(a, 48, 3, padding=1)
        start_at_zero(self.last)

    def forward(self, state: Tensor, base: Tensor, latent: Tensor, quality: Tensor, time: Tensor) -> Tensor:
        """state, base: float32 [B,3,16h,16w]; latent [B,96,h,w]; quality, time [B,1,1,1], 0..1 -> picture."""
        seen = torch.cat([F.pixel_unshuffle(part - 0.5, 4) for part in (state, base)], 1)
        high = self.stem(torch.cat([seen, planes_of(quality, time, seen)], 1))
        half = self.middle(self.down(high))
        told = torch.cat([latent / self.channel_std, planes_of(quality, time, latent)], 1)
        low = self.stage(self.deep(half) + self.latent(told))
        half = self.wide(half + self.up(low))
        high = self.fine(high + self.rise(half))
        return base + F.pixel_shuffle(self.last(bend(high)), 4).float()
