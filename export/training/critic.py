"""Perceptual loss of drawn pictures: LPIPS, squared error, a critic that tells drawn from real, and periodic detail.

Local statistics of VGG's and of random features may join them (export.training.texture): what learns from one judge
learns that judge, and another one sees less of the gain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.entropy.schedule import STRIDE
from edgesem.errors import UsageError
from export.metrics.lpips import Lpips
from export.training.texture import VggTexture, projected_distance

PERIODIC_WEIGHT = 2.0
_CELLS = 4  # latent positions, on a side, of the windows in which periodic detail is measured


class Critic(nn.Module):
    """Discriminator: small heads on a frozen network's features, and a convolutional network on the pixels.

    Projected adversarial training (Sauer et al. 2021). The features cost nothing more, since LPIPS needs them anyway.
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
        """Score maps [B,1,h,w] of all heads, above 0 for real. planes: float32 [B,3,H,W]; features as of `Lpips`."""
        # features have unit length at each position: bring them to unit size before a convolution
        scores = [head(f * f.shape[1] ** 0.5) for head, f in zip(self.heads, features, strict=True)]
        with torch.autocast(planes.device.type, enabled=False):  # bfloat16 rounds pixels to a grey level or two
            fine = self.pixels[0](F.pixel_unshuffle(planes.float() - 0.5, 2) * 4)
        return [*scores, self.pixels[1:](fine)]


def critic_loss(real: list[Tensor], drawn: list[Tensor]) -> Tensor:
    """Hinge loss of the critic (Lim and Ye 2017), a scalar, from its scores of real and of drawn pictures."""
    return torch.stack([F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in zip(real, drawn, strict=True)]).mean()


def generator_loss(drawn: list[Tensor]) -> Tensor:
    """Hinge loss of the network that draws, a scalar, from the critic's scores of what it drew."""
    return -torch.stack([b.mean() for b in drawn]).mean()


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Weights of the terms of a perceptual loss, and the files of the networks that two of them look through.

    lpips, vgg: files of weights as of `Lpips` and `VggTexture`, or none.
    """

    lpips: str | None = None
    lpips_weight: float = 1.0
    mse_weight: float = 40.0
    critic_weight: float = 0.02
    critic_from: float = 0.2
    vgg: str | None = None
    vgg_weight: float = 1.0
    projection_weight: float = 0.0


class PerceptualLoss:
    """Loss of drawn pictures: LPIPS, squared error, periodic detail, texture, and a critic that is trained along.

    Raises InputError for a file that holds no such weights, and UsageError without `judges.lpips`.
    """

    def __init__(self, judges: Judges, device: str = "cpu") -> None:
        if judges.lpips is None:
            raise UsageError("a perceptual loss needs the weights of AlexNet's LPIPS: name their file with --lpips")
        self.judges = judges
        self.lpips, self.critic = Lpips(Path(judges.lpips), device), Critic().to(device)
        self._textures: dict[str, tuple[float, Callable[[Tensor, Tensor], Tensor]]] = {}
        if judges.vgg and judges.vgg_weight:
            self._textures["vgg"] = judges.vgg_weight, VggTexture(Path(judges.vgg), device).distance
        if judges.projection_weight:
            self._textures["projections"] = judges.projection_weight, projected_distance
        self._optimizer = torch.optim.AdamW(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.99))

    def go_on_from(self, checkpoint: Path) -> None:
        """Take the critic of a student's run, if there is one in its checkpoint; then it counts from the first step."""
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            self.critic.load_state_dict(state["critic"])
        except (OSError, KeyError):
            return
        self.judges = replace(self.judges, critic_from=-1.0)

    def cost(
        self, drawn: Tensor, frame: Tensor, done: float, accelerator: Accelerator
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss [B] of pictures [B,3,H,W] drawn for `frame`, and what to log of it. `done` is 0..1 of the run.

        The critic learns and counts from `judges.critic_from` of the run on; before, nothing that is drawn has texture.
        """
        mse = (drawn - frame).square().mean((1, 2, 3))
        drawn, frame = _shifted(drawn, frame)
        with torch.no_grad():
            real = self.lpips.features(frame)
        features = self.lpips.features(drawn)
        distance = self.lpips.distance(features, real)
        periodic = F.relu(periodic_detail(drawn) - periodic_detail(frame)).mean((1, 2, 3))
        judges = self.judges
        cost = judges.lpips_weight * distance + judges.mse_weight * mse + PERIODIC_WEIGHT * periodic
        texture, seen = self._texture(drawn, frame)
        cost = cost + texture
        figures = {"lpips": distance.mean().item(), "periodic": periodic.mean().item(), **seen}
        share = min(1.0, (done - judges.critic_from) / 0.1)
        if share <= 0:
            return cost, figures
        loss = critic_loss(self.critic(frame, real), self.critic(drawn.detach(), [f.detach() for f in features]))
        self._optimizer.zero_grad()
        accelerator.backward(loss)
        self._optimizer.step()
        self.critic.requires_grad_(False)
        cost = cost + share * judges.critic_weight * generator_loss(self.critic(drawn, features))
        self.critic.requires_grad_(True)
        return cost, {**figures, "critic": loss.item()}

    def _texture(self, drawn: Tensor, frame: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Weighted texture losses [B], and what to log of them.

        Of every second picture, the others at another call: of all they would take as long as the rest of a step.
        """
        turn = slice(int(torch.randint(0, 2, ())) % len(drawn), None, 2)
        share = len(drawn) / len(drawn[turn])
        total, figures = torch.zeros(len(drawn), device=drawn.device), {}
        for name, (weight, distance) in self._textures.items():
            far = distance(drawn[turn], frame[turn])
            total[turn] = total[turn] + share * weight * far
            figures[name] = far.mean().item()
        return total, figures


def periodic_detail(planes: Tensor) -> Tensor:
    """Share of fine detail that repeats every STRIDE pixels, 0..1: [B,3,h,w] for windows of _CELLS positions a side.

    planes: float32 [B,3,H,W]. Detail that does not repeat has about 1/_CELLS^2. A decoder draws 16x16 pixels a position
    of its latent; what it draws alike at all of them, an eye sees as a weave on grass.
    """
    side = STRIDE * _CELLS
    height, width = (length // side * side for length in planes.shape[2:])
    planes = planes[:, :, :height, :width]
    fine = planes - F.avg_pool2d(planes, 5, 1, 2, count_include_pad=False)
    parts = fine.reshape(*planes.shape[:2], height // side, _CELLS, STRIDE, width // side, _CELLS, STRIDE)
    common = parts.mean((3, 6)).square().mean((3, 5))
    return common / (parts.square().mean((3, 4, 6, 7)) + 1e-5)


def _shifted(*pictures: Tensor) -> list[Tensor]:
    """Random crops of pictures, 16 rows and columns smaller, at the same place in all of them.

    AlexNet looks at every fourth pixel only, and its deeper layers at every eighth and sixteenth. Given pictures that
    always begin at the same place, a decoder that draws 4x4 and 8x8 pixels at a time learned to satisfy it with a grid
    of period four, which an eye sees at once.
    """
    down, right = torch.randint(0, STRIDE, (2,)).tolist()
    height, width = (side - STRIDE for side in pictures[0].shape[2:])
    return [picture[:, :, down : down + height, right : right + width] for picture in pictures]
