"""What a drawn picture costs in training: LPIPS, squared error, and a critic's opinion: is it real, or drawn?"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.entropy.schedule import STRIDE
from export.metrics.lpips import Lpips

FIGURE_WEIGHT = 2.0
_CELLS = 4  # of STRIDE pixels a side, that a window has in which a figure may return


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


class Audience:
    """LPIPS and a critic, before whom pictures are drawn; the critic learns at each showing.

    lpips: file of AlexNet's LPIPS weights. Raises InputError for a file that holds none.
    """

    def __init__(self, lpips: str, weights: tuple[float, float, float], critic_from: float) -> None:
        self.judge, self.critic = Lpips(Path(lpips)), Critic()
        self.lpips_weight, self.mse_weight, self.critic_weight = weights
        self.critic_from = critic_from
        self._optimizer = torch.optim.AdamW(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.99))

    def cost(
        self, drawn: Tensor, frame: Tensor, done: float, accelerator: Accelerator
    ) -> tuple[Tensor, dict[str, float]]:
        """Cost [B] of pictures [B,3,H,W] drawn for `frame`, and what to log of it. `done` is 0..1 of the run.

        The critic counts from `critic_from` of the run on; before, what is drawn has no texture worth an opinion.
        """
        mse = (drawn - frame).square().mean((1, 2, 3))
        drawn, frame = _shifted(drawn, frame)
        with torch.no_grad():
            real = self.judge.features(frame)
        features = self.judge.features(drawn)
        distance = self.judge.distance(features, real)
        returns = F.relu(figure(drawn) - figure(frame)).mean((1, 2, 3))
        cost = self.lpips_weight * distance + self.mse_weight * mse + FIGURE_WEIGHT * returns
        figures = {"lpips": distance.mean().item(), "figure": returns.mean().item()}
        share = min(1.0, (done - self.critic_from) / 0.1)
        if share <= 0:
            return cost, figures
        opinion = critic_loss(self.critic(frame, real), self.critic(drawn.detach(), [f.detach() for f in features]))
        self._optimizer.zero_grad()
        accelerator.backward(opinion)
        self._optimizer.step()
        self.critic.requires_grad_(False)
        cost = cost + share * self.critic_weight * artist_loss(self.critic(drawn, features))
        self.critic.requires_grad_(True)
        return cost, {**figures, "critic": opinion.item()}


def figure(planes: Tensor) -> Tensor:
    """How much of the fine detail returns every STRIDE pixels, 0..1: [B,3,h,w] for windows of _CELLS cells a side.

    The decoder draws by cells of a latent; what it draws alike in all of them, an eye sees as a weave on grass.
    Detail without such a figure has about 1/_CELLS^2.
    """
    side = STRIDE * _CELLS
    height, width = (length // side * side for length in planes.shape[2:])
    planes = planes[:, :, :height, :width]
    fine = planes - F.avg_pool2d(planes, 5, 1, 2, count_include_pad=False)
    parts = fine.reshape(*planes.shape[:2], height // side, _CELLS, STRIDE, width // side, _CELLS, STRIDE)
    common = parts.mean((3, 6)).square().mean((3, 5))
    return common / (parts.square().mean((3, 4, 6, 7)) + 1e-5)


def _shifted(*pictures: Tensor) -> list[Tensor]:
    """The pictures without 16 rows and columns, up to 15 of them at the top and the left, the same for all.

    AlexNet looks at every fourth pixel only, and its deeper layers at every eighth and sixteenth. Shown pictures that
    always begin at the same place, a decoder that draws 4x4 and 8x8 pixels at a time learned to please it with a grid
    of period four, which an eye sees at once.
    """
    down, right = torch.randint(0, STRIDE, (2,)).tolist()
    height, width = (side - STRIDE for side in pictures[0].shape[2:])
    return [picture[:, :, down : down + height, right : right + width] for picture in pictures]
