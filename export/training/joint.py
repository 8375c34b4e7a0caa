"""Joint training of codec and flow decoder: the encoder sends what helps to draw, not only what lowers the error.

    loss = bits + weight of distortion * (distortion of the base picture + cost of the picture drawn in few steps)

Both come from runs of their own. The folder holds both afterwards: name it as RUN and as --flow to `edgesem export`,
and to `edgesem distill --flow`, which goes on with the flow decoder alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import GROUPS
from export.data.crops import Crops
from export.training.codec import CodecNet, TrainConfig, base_distortion, lambda_of, load_weights, spread_levels
from export.training.critic import PerceptualLoss
from export.training.flow import FlowConfig, drawn_in_few_steps, open_flow
from export.training.loop import Progress, RunOptions, device_of, run


@dataclass(frozen=True, kw_only=True)
class JointConfig(TrainConfig, FlowConfig):
    """Settings of a joint run. codec: its own folder, so that `edgesem distill --flow` can go on from there.

    drawn_weight: of the cost of a drawn picture beside the base's distortion; at 270 both are alike near 0.1 bit per
    pixel.
    """

    teacher: bool = False
    ms_ssim_from: float = -1.0
    crop: int = 192
    batch: int = 4
    learning_rate: float = 2e-4
    lpips_weight: float = 1.5
    mse_weight: float = 15.0
    drawn_weight: float = 150.0


def train_joint(
    config: JointConfig,
    start: Path,
    flow: Path,
    out: Path,
    *,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train the codec of weights file `start` and the flow decoder of run folder `flow` on each other.

    `config.lpips` names the weights of AlexNet's LPIPS. Returns the file of both averaged weights. Raises InputError
    for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    codec = CodecNet()
    load_weights(codec, start)
    drawer, _ = open_flow(flow)
    perceptual = PerceptualLoss(config, str(device))
    net = nn.ModuleDict({"codec": codec, "flow": drawer.train()})

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        codec, flow = accelerator.unwrap_model(net)["codec"], accelerator.unwrap_model(net)["flow"]
        frame = crops.varied_batch(config.batch)
        level = spread_levels(config.batch).to(frame.device)
        base, bpp, latent = codec.draw(frame, level, torch.full_like(level, len(GROUPS)))
        distortion, figures = base_distortion(base, frame, config, done)
        drawn = drawn_in_few_steps(flow, base, latent, level / LEVELS)
        cost, seen = perceptual.cost(drawn, frame, done, accelerator)
        weight = lambda_of(level.flatten() / LEVELS, config)
        total = (bpp + weight * (distortion + config.drawn_weight * cost)) / weight.sqrt()
        return total.mean(), {"bpp": bpp.mean().item(), **figures, **seen}

    return run(net, config, out, loss, progress, options, resumed=crops.restart, beside={"critic": perceptual.critic})
