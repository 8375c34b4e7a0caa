"""Training of the flow decoder on a frozen codec: first a many-step teacher, then a student for few steps.

    teacher  from any time on the path to the real picture, by squared error
    student  from the times of a four-step schedule, mostly the very first, by LPIPS and a critic as well, so that it
             draws texture in one step and takes two or four too (adversarial distillation, Sauer et al. 2023)

Plain regression of LPIPS draws little that the quantizer removed; the critic (export.critic) is what asks for texture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.errors import InputError
from edgesem.flow import NOISE
from export.context_net import LEVELS
from export.critic import Critic, artist_loss, critic_loss
from export.data import Crops
from export.flow import FLOWS
from export.loop import Progress, run
from export.lpips import Lpips
from export.train import CodecNet, load_weights

FEW = 4  # steps that the student is taught to start from


@dataclass(frozen=True)
class FlowConfig:
    """What a run of the flow decoder was asked to do."""

    data: str
    codec: str
    minutes: float
    lpips: str | None = None
    form: str = "pixel"
    crop: int = 256
    batch: int = 4
    learning_rate: float = 5e-4
    final_learning_rate: float = 2e-5
    critic_from: float = 0.2
    lpips_weight: float = 1.0
    mse_weight: float = 40.0
    critic_weight: float = 0.02
    average: float = 0.998
    seed: int = 0


def train_flow(config: FlowConfig, out: Path, *, start: Path | None = None, progress: Progress) -> Path:
    """Train a flow decoder on the codec in run folder `config.codec`; returns its averaged weights' file.

    With LPIPS weights (`config.lpips`) a few-step student, usually one that `start`s from a teacher's weights; without,
    a teacher. Raises InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    crops = Crops(Path(config.data), config.crop, config.seed)
    codec = CodecNet().requires_grad_(False).eval()
    load_weights(codec, Path(config.codec) / "weights.safetensors")
    codec = codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    judge = Lpips(Path(config.lpips)) if config.lpips else None
    net, critic = FLOWS[config.form](), Critic()
    net.channel_std.copy_(codec.decoder.channel_std)  # type: ignore[operator]
    if start is not None:
        load_weights(net, start)
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=2e-4, betas=(0.5, 0.99))

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.batch(config.batch).to(accelerator.device, memory_format=torch.channels_last)
        level = torch.randint(0, LEVELS + 1, (config.batch, 1, 1, 1), device=frame.device).float()
        with torch.no_grad():
            base, latent = codec.redraw(frame, level)
        time = torch.rand(config.batch, 1, 1, 1, device=frame.device)
        if judge is not None:
            time = torch.where(time < 0.6, 0.0, (time * FEW).floor() / FEW)
        begin = base + NOISE * torch.randn_like(base)
        drawn = net(begin + time * (frame - begin), base, latent, level / LEVELS, time).float()
        mse = (drawn - frame).square().mean((1, 2, 3))
        figures = {"psnr": _psnr(mse), "base_psnr": _psnr((base - frame).square().mean((1, 2, 3)))}
        if judge is None:
            return config.mse_weight * mse.mean(), figures
        with torch.no_grad():
            real = judge.features(frame)
        features = judge.features(drawn)
        distance = judge.distance(features, real).mean()
        total = config.lpips_weight * distance + config.mse_weight * mse.mean()
        figures["lpips"] = distance.item()
        share = min(1.0, (done - config.critic_from) / 0.1)
        if share > 0:
            opinion = critic_loss(critic(frame, real), critic(drawn.detach(), [f.detach() for f in features]))
            critic_optimizer.zero_grad()
            accelerator.backward(opinion)
            critic_optimizer.step()
            critic.requires_grad_(False)
            total = total + share * config.critic_weight * artist_loss(critic(drawn, features))
            critic.requires_grad_(True)
            figures["critic"] = opinion.item()
        return total, figures

    return run(net, config, out, loss, progress, resumed=crops.restart, beside={"critic": critic})


def open_flow(run: Path) -> tuple[nn.Module, FlowConfig]:
    """The averaged weights of a flow decoder's run and what it was asked to do.

    Raises InputError when it holds none.
    """
    try:
        config = FlowConfig(**json.loads((run / "config.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run} holds no flow decoder: {error}; make one with edgesem train --flow CODEC") from error
    net = FLOWS[config.form]()
    load_weights(net, run / "weights.safetensors")
    return net.eval(), config


def _psnr(mse: Tensor) -> float:
    return float(-10 * torch.log10(mse.detach().clamp(min=1e-9)).mean())
