"""Training of encoder, base decoder, gains and context model together, by rate and distortion.

    crops -> Encoder -> * gain(q) -> ContextModel (rounding in the loop) -> / gain(q) -> Decoder -> distortion
                                           `-> bits of the symbols

Everything starts from the KLT of the user's own photographs (networks.klt_basis), which is worth an hour of training.
The schedule follows the clock, not steps: `minutes` is what the user pays for. A run folder holds `checkpoint.pt` (to
resume), `weights.safetensors` (averaged weights), `config.json`, `log.jsonl`, and `history.jsonl`: a line for each call
of a run that was continued, perhaps with other settings.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgesem.context import CHANNELS, GROUPS
from edgesem.errors import InputError
from edgesem.tables import SMALLEST_WIDTH, WIDTH_RATIO
from export.context_net import LEVELS, ContextModel, group_of_channel
from export.data import Crops
from export.losses import ms_ssim, rate
from export.networks import Decoder, Encoder, Gains, klt_basis

LOG_STEPS = 100  # steps that a line of the log is the mean of
MS_SSIM_WEIGHT = 1800.0  # (1 - MS-SSIM) * 1800 is about 255^2 * MSE between 24 and 30 dB


@dataclass(frozen=True)
class TrainConfig:
    """What a run was asked to do; stands in its folder and later in the bundle's manifest."""

    data: str
    minutes: float
    crop: int = 192
    batch: int = 8
    learning_rate: float = 1e-3
    final_learning_rate: float = 2e-5
    lambda_low: float = 3.7e-5
    lambda_high: float = 1.7e-2
    ms_ssim: float = 0.6
    ms_ssim_from: float = 0.3
    nested_dropout: float = 0.25
    average: float = 0.998
    seed: int = 0


class CodecNet(nn.Module):
    """The whole codec as one trainable module."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.gains, self.context = Gains(), ContextModel()

    def start_from_klt(self, crops: Tensor) -> None:
        """Set linear paths, normalisation and the context's first guess from the statistics of photographs."""
        basis, std = klt_basis(crops)
        offset = -math.log(SMALLEST_WIDTH * math.pi / math.sqrt(3)) / math.log(WIDTH_RATIO)
        with torch.no_grad():
            self.encoder.linear.weight.copy_(basis)
            self.decoder.linear.weight.copy_(basis)
            self.decoder.channel_std.copy_(std.view(1, -1, 1, 1))
        self.context.start_from(std, self.gains.log_gain.detach(), torch.tensor([offset, 1 / math.log(WIDTH_RATIO)]))

    def forward(self, frame: Tensor, level: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Picture [B,3,H,W] and bits per pixel [B] at `level` (float32 [B,1,1,1], 0..255) from `layers` groups."""
        gain, inverse = self.gains(level / LEVELS)
        scaled = self.encoder(frame).float() * gain
        with torch.autocast(frame.device.type, enabled=False):
            values, mean, scale = self.context(scaled, level, layers)
            bits = rate(scaled - mean, scale)
        sent = group_of_channel().to(frame.device).view(1, CHANNELS, 1, 1) < layers
        bpp = (bits * sent).sum((1, 2, 3)) / (frame.shape[2] * frame.shape[3])
        return self.decoder(values * inverse, level / LEVELS), bpp


def lambda_of(quality: Tensor, config: TrainConfig) -> Tensor:
    """Weight of distortion at quality 0..1, on a log grid."""
    low, high = math.log(config.lambda_low), math.log(config.lambda_high)
    return torch.exp(low + (high - low) * quality)


def loss_of(net: nn.Module, frame: Tensor, config: TrainConfig, done: float) -> tuple[Tensor, dict[str, float]]:
    """Rate-distortion loss of one batch at random qualities, and what to log of it. `done` is 0..1 of the run."""
    batch = frame.shape[0]
    level = torch.randint(0, LEVELS + 1, (batch, 1, 1, 1), device=frame.device).float()
    fewer = torch.rand(batch, 1, 1, 1, device=frame.device) < config.nested_dropout
    layers = torch.where(fewer, torch.randint(1, len(GROUPS), fewer.shape, device=frame.device), len(GROUPS))
    picture, bpp = net(frame, level, layers)
    mse = ((picture.float() - frame) ** 2).mean((1, 2, 3))
    share = config.ms_ssim * min(1.0, max(0.0, (done - config.ms_ssim_from) / 0.1))
    similarity = torch.ones(()) if share == 0 else ms_ssim(picture.float().clamp(0, 1), frame)
    distortion = (1 - share) * 255**2 * mse + share * MS_SSIM_WEIGHT * (1 - similarity)
    weight = lambda_of(level.flatten() / LEVELS, config)
    loss = ((bpp + weight * distortion) / weight.sqrt()).mean()
    psnr = -10 * torch.log10(mse.detach().clamp(min=1e-9))
    figures = {"bpp": bpp.mean().item(), "psnr": psnr.mean().item()}
    return loss, figures if share == 0 else {**figures, "ms_ssim": similarity.mean().item()}


def train(
    config: TrainConfig, out: Path, *, start: Path | None = None, progress: Callable[[float, dict[str, Any]], None]
) -> Path:
    """Train until `config.minutes` are spent and return the averaged weights' file.

    Continues when `out` holds a checkpoint; `start` names a weights file to begin from instead of the KLT.
    `progress(done, figures)` is called about once a second. Raises InputError for unusable data or weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16")
    torch.manual_seed(config.seed)
    crops = Crops(Path(config.data), config.crop, config.seed)
    net = CodecNet()
    if start is not None:
        load_weights(net, start)
    else:
        net.start_from_klt(crops.batch(600))
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(
        net,
        multi_avg_fn=get_ema_multi_avg_fn(config.average),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=1e-5)
    spent_s, step = 0.0, 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            net.load_state_dict(state["net"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            spent_s, step = state["spent_s"], state["step"]
        except Exception as error:  # torch lets out whatever a damaged or foreign file makes it stumble on
            raise InputError(f"{checkpoint} cannot be continued: {error}; name another --out or remove it") from error
        crops.random = np.random.default_rng(config.seed + step)
    net, optimizer = accelerator.prepare(net, optimizer)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    with (out / "history.jsonl").open("a") as history:
        settings = {key: value for key, value in asdict(config).items() if key != "data"}
        history.write(json.dumps({"from_minute": round(spent_s / 60, 2), "from_step": step, **settings}) + "\n")
    saved_at = shown_at = clock = time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    with (out / "log.jsonl").open("a") as log:
        while spent_s < config.minutes * 60:
            done = spent_s / (config.minutes * 60)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, done, step)
            frame = crops.batch(config.batch).to(accelerator.device, memory_format=torch.channels_last)
            with accelerator.autocast():
                loss, figures = loss_of(net, frame, config, done)
            optimizer.zero_grad()
            if math.isfinite(loss.item()):
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                average.update_parameters(accelerator.unwrap_model(net))
            step += 1
            count += 1
            for key, value in {"loss": loss.item(), **figures}.items():
                sums[key] = sums.get(key, 0.0) + value
            now = time.monotonic()
            spent_s, clock = spent_s + now - clock, now
            if now - shown_at > 1:
                progress(
                    min(1.0, spent_s / (config.minutes * 60)), {"step": step, **{k: v / count for k, v in sums.items()}}
                )
                shown_at = now
            finished = spent_s >= config.minutes * 60
            if count == LOG_STEPS or finished:
                means = {key: round(value / count, 5) for key, value in sums.items()}
                log.write(json.dumps({"step": step, "minutes": round(spent_s / 60, 2), **means}) + "\n")
                log.flush()
                sums, count = {}, 0
            if now - saved_at > 180 or finished:
                _save(out, accelerator.unwrap_model(net), average, optimizer, spent_s, step)
                saved_at = time.monotonic()
                clock = saved_at
    return out / "weights.safetensors"


def learning_rate(config: TrainConfig, done: float, step: int) -> float:
    """Cosine decay over the run after 200 steps of warm-up."""
    span = config.learning_rate - config.final_learning_rate
    return min(1.0, (step + 1) / 200) * (config.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * done)))


def load_weights(net: nn.Module, path: Path) -> None:
    """Load averaged weights that a run wrote. Raises InputError when they do not fit this network."""
    try:
        net.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} does not hold weights of this network: {error}") from error


def _save(
    out: Path, net: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, spent_s: float, step: int
) -> None:
    """Write checkpoint and averaged weights, each to a temporary name first: a killed run never leaves half a file."""
    state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**state, "spent_s": spent_s, "step": step}, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    weights = {k.removeprefix("module."): v.contiguous() for k, v in average.state_dict().items() if k != "n_averaged"}
    save_file(weights, out / "weights.tmp")
    os.replace(out / "weights.tmp", out / "weights.safetensors")
