"""Training of the large decoder: for receivers that are computers, and for the packets of a codec that stays.

Encoder, gains and context model stay as they are, so its latents are truly quantized ones, and only the drawing learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import GROUPS
from edgesem.errors import InputError
from export.data.crops import Crops
from export.networks.codec import Decoder, large_decoder
from export.training.codec import TrainConfig, base_distortion, lambda_of, open_run, spread_levels
from export.training.loop import Progress, RunOptions, device_of, read_settings, read_weights, run
from export.training.losses import psnr_db


@dataclass(frozen=True)
class LargeConfig(TrainConfig):
    """Settings of a run of the large decoder. codec: folder of the codec's run."""

    codec: str = ""
    crop: int = 256
    batch: int = 4
    teacher: bool = False
    ms_ssim_from: float = -1.0


def train_large(
    config: LargeConfig,
    out: Path,
    *,
    start: Path | None = None,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train a large decoder on the codec in run folder `config.codec`; returns its averaged weights' file.

    It begins with the linear path of the codec's own decoder, or with the weights file `start` of an earlier run.
    Raises InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    codec, _ = open_run(Path(config.codec))
    codec = codec.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net = large_decoder()
    net.linear.load_state_dict(codec.decoder.linear.state_dict())
    net.channel_std.copy_(codec.decoder.channel_std)
    if start is not None:
        _load(net, start)

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.varied_batch(config.batch)
        level = spread_levels(config.batch).to(frame.device)
        fewer = torch.rand_like(level) < config.nested_dropout
        layers = torch.where(fewer, torch.randint(1, len(GROUPS), fewer.shape, device=frame.device), len(GROUPS))
        with torch.no_grad():
            latent, bpp = codec.send(frame, level, layers)
            small = codec.decoder(latent, level / LEVELS).float()
        distortion, figures = base_distortion(net(latent, level / LEVELS), frame, config, done)
        base_psnr = psnr_db((small - frame).square().mean((1, 2, 3)))
        weight = lambda_of(level.flatten() / LEVELS, config).sqrt()
        return (weight * distortion).mean(), {"bpp": bpp.mean().item(), "base_psnr": base_psnr, **figures}

    return run(net, config, out, loss, progress, options, resumed=crops.restart)


def open_large(run: Path) -> Decoder:
    """The averaged weights of a run. Raises InputError when the folder holds none of a large decoder."""
    read_settings(run, LargeConfig)
    net = large_decoder()
    _load(net, run / "weights.safetensors")
    return net.eval()


def _load(net: Decoder, path: Path) -> None:
    try:
        net.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise InputError(f"{path} holds no weights of edgesem train --decoder-large: {error}") from error
