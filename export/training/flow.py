"""Training of the flow decoder on a frozen codec: first a teacher for many steps, then a student for few.

    teacher  from any time on the path to the real picture, by squared error
    student  from the times of a four-step schedule, mostly the very first, by LPIPS and a critic as well, so that it
             draws texture in one step and takes two or four too (adversarial distillation, Sauer et al. 2023); what its
             later steps start from is what it drew itself

Regression of LPIPS alone draws little of what the quantizer removed; texture comes from the critic
(export.training.critic).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.flow import NOISE
from edgesem.codec.latent import LEVELS
from export.data.crops import Crops
from export.networks.flow import FlowDecoder
from export.training.codec import CodecNet, load_weights, spread_levels
from export.training.critic import Judges, PerceptualLoss
from export.training.loop import Progress, RunOptions, RunSettings, device_of, read_settings, run
from export.training.losses import psnr_db

FEW = 4  # steps that the student is taught to start from


@dataclass(frozen=True, kw_only=True)
class FlowConfig(Judges, RunSettings):
    """Settings of a run of the flow decoder, of a few-step student's judges too. codec: folder of the codec's run."""

    codec: str
    learning_rate: float = 5e-4


def train_flow(
    config: FlowConfig,
    out: Path,
    *,
    start: Path | None = None,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train a flow decoder on the codec in run folder `config.codec`; returns its averaged weights' file.

    With LPIPS weights (`config.lpips`) a few-step student, usually one that `start`s from a teacher's weights; without,
    a teacher. From a student's weights, its critic goes on as well, where its checkpoint is at hand. Raises InputError
    for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    codec = CodecNet().requires_grad_(False).eval()
    load_weights(codec, Path(config.codec) / "weights.safetensors")
    codec = codec.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    perceptual = PerceptualLoss(config, str(device)) if config.lpips else None
    net = FlowDecoder()
    net.channel_std.copy_(codec.decoder.channel_std)
    if start is not None:
        load_weights(net, start)
        if perceptual is not None:
            perceptual.go_on_from(start.with_name("checkpoint.pt"))

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.varied_batch(config.batch)
        level = spread_levels(config.batch).to(frame.device)
        with torch.no_grad():
            base, latent = codec.redraw(frame, level)
        if perceptual is None:
            begin, time = base + NOISE * torch.randn_like(base), torch.rand_like(level)
            drawn = net(begin + time * (frame - begin), base, latent, level / LEVELS, time).float()
        else:
            drawn = drawn_in_few_steps(net, base, latent, level / LEVELS)
        mse = (drawn - frame).square().mean((1, 2, 3))
        figures = {"psnr": psnr_db(mse), "base_psnr": psnr_db((base - frame).square().mean((1, 2, 3)))}
        if perceptual is None:
            return config.mse_weight * mse.mean(), figures
        cost, seen = perceptual.cost(drawn, frame, done, accelerator)
        return cost.mean(), {**figures, **seen}

    beside = {"critic": perceptual.critic} if perceptual else {}
    return run(net, config, out, loss, progress, options, resumed=crops.restart, beside=beside)


def drawn_in_few_steps(net: nn.Module, base: Tensor, latent: Tensor, quality: Tensor) -> Tensor:
    """Pictures [B,3,H,W] that the network draws from random times of a four-step schedule.

    base: float32 [B,3,H,W]; latent: [B,96,H/16,W/16]; quality: 0..1, [B,1,1,1].
    """
    time = times_of_few_steps(torch.rand_like(quality))
    begin = base + NOISE * torch.randn_like(base)
    state = state_of_few_steps(net, begin, base, latent, quality, time)
    drawn: Tensor = net(state, base, latent, quality, time)
    return drawn.float()


def times_of_few_steps(share: Tensor) -> Tensor:
    """Times 0, 1/4, 1/2, 3/4 for uniform numbers 0..1 of any shape: three in five are 0, which is all of one step."""
    later = ((share - 0.6) / 0.4 * (FEW - 1)).floor() + 1
    return torch.where(share < 0.6, 0.0, later / FEW)


def state_of_few_steps(
    net: nn.Module, begin: Tensor, base: Tensor, latent: Tensor, quality: Tensor, time: Tensor
) -> Tensor:
    """State at `time` [B,1,1,1] on the way from `begin` to what the network itself draws in one step.

    That is what its later steps will meet. Taught on the way to the real picture instead, two and four steps were worse
    than one by any measure.
    """
    later = time.flatten() > 0
    if not later.any():
        return begin
    with torch.no_grad():
        start = torch.zeros_like(time[later])
        drawn = net(begin[later], base[later], latent[later], quality[later], start).float()
    state = begin.clone()
    state[later] = begin[later] + time[later] * (drawn - begin[later])
    return state


def open_flow(run: Path) -> tuple[FlowDecoder, FlowConfig]:
    """The averaged weights of a flow decoder's run and its settings. Raises InputError when it holds none."""
    config = read_settings(run, FlowConfig)
    net = FlowDecoder()
    load_weights(net, run / "weights.safetensors")
    return net.eval(), config
