"""The critic of adversarial training: is this picture real, or drawn?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Critic(nn.Module):
    """Small heads on a frozen network's features, and a look at the pixels themselves for what those cannot see.

    Projected adversarial training (Sauer et al. 2021): the features come for free, since LPIPS needs them anyway.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 192, 384, 256, 256), width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 1, 3, padding=1))
            for c in channels
        )
        self.pixels = nn.Sequential(
            nn.Conv2d(12, 48, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(48, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 1, 3, padding=1),
        )

    def forward(self, planes: Tensor, features: list[Tensor]) -> list[Tensor]:
        """A map of opinions for each head, above 0 for real; planes float32 [B,3,H,W], features as of `Lpips`."""
        # features have unit length at each position: bring them to unit size before a convolution
        opinions = [head(f * f.shape[1] ** 0.5) for head, f in zip(self.heads, features, strict=True)]
        return [*opinions, self.pixels(F.pixel_unshuffle(planes - 0.5, 2) * 4)]


def critic_loss(real: list[Tensor], drawn: list[Tensor]) -> Tensor:
    """Hinge loss of the critic, a scalar."""
    return torch.stack([F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in zip(real, drawn, strict=True)]).mean()


def artist_loss(drawn: list[Tensor]) -> Tensor:
    """Hinge loss of who draws, a scalar."""
    return -torch.stack([b.mean() for b in drawn]).mean()
