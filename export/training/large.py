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
from edgesem.errors import InputError
from export.data.crops import Crops
from export.networks.codec import Decoder, large_decoder
from export.training.codec import TrainConfig, drawing_loss, open_run, random_sending
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

    It begins with the codec's own decoder, or with the weights file `start` of an earlier run. What works at stride 16
    and the first block behind it stay the codec's: the file that has to be kept is half as large.
    Raises InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    codec, _ = open_run(Path(config.codec))
    codec = codec.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net = _of_codec(codec.decoder)
    if start is not None:
        _load(net, start)
    for part in (net.linear, net.stem, net.deep, net.rise, net.middle[0]):
        part.requires_grad_(False)

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.varied_batch(config.batch)
        level, layers = random_sending(config.batch, config.nested_dropout, frame.device)
        with torch.no_grad():
            latent, bpp = codec.send(frame, level, layers)
            small = codec.decoder(latent, level / LEVELS).float()
        drawn, figures = drawing_loss(net(latent, level / LEVELS), frame, level, config, done)
        base_psnr = psnr_db((small - frame).square().mean((1, 2, 3)))
        return drawn, {"bpp": bpp.mean().item(), "base_psnr": base_psnr, **figures}

    return run(net, config, out, loss, progress, options, resumed=crops.restart)


def open_large(run: Path, codec: Decoder) -> Decoder:
    """The averaged weights of a run's folder, or those in a file.

    What the file leaves out is the decoder of the codec that it was trained for. Raises InputError when there is none
    of a large decoder.
    """
    if run.is_dir():
        read_settings(run, LargeConfig)
        run /= "weights.safetensors"
    net = _of_codec(codec)
    _load(net, run)
    return net.eval()


def _of_codec(decoder: Decoder) -> Decoder:
    """A large decoder that draws what `decoder` does."""
    net = large_decoder()
    net.load_state_dict(decoder.state_dict(), strict=False)
    return net


def _load(net: Decoder, path: Path) -> None:
    weights = read_weights(path)
    known = net.state_dict()
    if strange := [name for name, value in weights.items() if name not in known or value.shape != known[name].shape]:
        raise InputError(f"{path} holds no weights of edgesem train --decoder-large: {strange[0]} does not fit")
    net.load_state_dict(weights, strict=False)
