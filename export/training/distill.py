"""Distillation of the board's encoder from a teacher: first its latents, then rate and distortion, all else frozen.

A Hugging Face vision encoder may be a second teacher all along: the features of the board's encoder at stride 16,
before its last layer, are pulled towards that one's at the same places.

Context model, gains and decoders stay the teacher's, so every decoder serves both encoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.latent import LEVELS
from export.custom.hf import alignment, open_vision
from export.data.crops import Crops
from export.training.codec import CodecNet, TrainConfig, load_weights, loss_of
from export.training.loop import Progress, RunOptions, device_of, run


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Settings of a distillation. vision: folder of a Hugging Face encoder to learn features from."""

    teacher: bool = False
    ms_ssim_from: float = -1.0
    match: float = 0.3
    learning_rate: float = 5e-4
    vision: str = ""
    vision_weight: float = 0.1


def match_loss(student: Tensor, teacher: Tensor, gain: Tensor) -> Tensor:
    """Squared distance of two latents in quantizer steps at the qualities of `gain`, the mean over all values."""
    return ((student - teacher) * gain).square().mean()


def distill(
    config: DistillConfig, teacher: Path, out: Path, *, progress: Progress, options: RunOptions | None = None
) -> Path:
    """Train a board's encoder from a teacher's weights file; returns the averaged weights' file of the whole codec.

    For the first `config.match` of the time it learns the teacher's latents, then rate and distortion. Raises
    InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    guide = CodecNet(teacher=True).requires_grad_(False).eval()
    guide = guide.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net = CodecNet()
    for part in (guide, net):
        load_weights(part, teacher)
    for frozen in (net.decoder, net.gains, net.context):
        frozen.requires_grad_(False)
    vision = open_vision(Path(config.vision)).to(device) if config.vision else None

    def codec_loss(
        net: nn.Module, frame: Tensor, done: float, accelerator: Accelerator
    ) -> tuple[Tensor, dict[str, float]]:
        if done >= config.match:
            return loss_of(net, frame, config, done)
        with torch.no_grad():
            wanted = guide.encoder(frame)
            level = torch.randint(0, LEVELS + 1, (frame.shape[0], 1, 1, 1), device=frame.device)
            gain, _ = guide.gains(level / LEVELS)
        distance = match_loss(accelerator.unwrap_model(net).encoder(frame), wanted, gain)
        return distance, {"match": distance.item()}

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.varied_batch(config.batch)
        total, figures = codec_loss(net, frame, done, accelerator)
        if vision is None:
            return total, figures
        with torch.no_grad():
            seen = vision.features(frame)
        alike = alignment(accelerator.unwrap_model(net).encoder.parts(frame)[1], seen)
        return total + config.vision_weight * (1 - alike), {**figures, "vision": alike.item()}

    return run(net, config, out, loss, progress, options, resumed=crops.restart)
