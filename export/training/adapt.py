"""Adaptation of a codec to one camera: trained on its frames, with photographs of other things among them.

What it then costs on other pictures is measured, and bounded: where it is too much, the weights are taken back towards
those that it began with (Wortsman et al. 2022) until it is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save
from torch import Tensor, nn

from edgesem.errors import ExportError
from edgesem.files import write_whole
from edgesem.quality.metrics import Frame
from export.data.crops import Crops
from export.training.codec import CodecNet, TrainConfig, load_weights, loss_of, open_run
from export.training.evaluate import bd_rates
from export.training.loop import Progress, RunOptions, device_of, read_weights, run

MOST_GENERAL_LOSS_PERCENT = 3.0  # more bytes on other pictures, for the same MS-SSIM
_SHARES = (1.0, 0.7, 0.4, 0.2)  # of the way from the old weights to the adapted ones


@dataclass(frozen=True)
class AdaptConfig(TrainConfig):
    """Settings of an adaptation. data: the camera's frames; photographs: of other things, a `general` share of crops.

    The range of weights of distortion is that of the weights in export/weights.
    """

    photographs: str = ""
    general: float = 0.33
    encoder: bool = False
    crop: int = 256
    batch: int = 6
    learning_rate: float = 3e-4
    lambda_low: float = 6e-5
    lambda_high: float = 2.8e-2
    ms_ssim: float = 0.85
    ms_ssim_from: float = -1.0
    ssimulacra2: float = 0.3
    teacher: bool = False


def adapt_codec(
    config: AdaptConfig, start: Path, out: Path, *, progress: Progress, options: RunOptions | None = None
) -> Path:
    """Train the codec of weights file `start` on a camera's frames; returns the averaged weights' file.

    The encoder stays as it is unless `config.encoder`: then what was made for it, a semantic head, fits no more. Raises
    InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    own = Crops(Path(config.data), config.crop, config.seed, device=device)
    other = Crops(Path(config.photographs), config.crop, config.seed + 1, device=device)
    count = min(config.batch - 1, max(1, round(config.general * config.batch)))
    net = CodecNet()
    load_weights(net, start)
    net.encoder.requires_grad_(config.encoder)

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = torch.cat([own.batch(config.batch - count), other.varied_batch(count)])
        frame = frame[torch.randperm(config.batch, device=frame.device)]  # the levels of a batch rise along it
        return loss_of(net, frame.contiguous(memory_format=torch.channels_last), config, done)

    def restart(step: int) -> None:
        own.restart(step)
        other.restart(step)

    return run(net, config, out, loss, progress, options, resumed=restart)


def bounded(run: Path, start: Path, general: Sequence[Frame], out: Path) -> dict[str, float | None]:
    """Take the weights of a run back towards those of file `start` until other pictures lose no more than allowed.

    They are written to `out`, as a run of their own. Returns the share of the way that is left and the loss on
    `general` pictures in percent. Raises ExportError if even a fifth of the way costs too much.
    """
    old = CodecNet()
    load_weights(old, start)
    adapted, first = read_weights(run / "weights.safetensors"), old.state_dict()
    for share in _SHARES:
        mixed = {name: torch.lerp(first[name], adapted[name], share).contiguous() for name in adapted}
        net = CodecNet()
        net.load_state_dict(mixed)
        loss = bd_rates(old, net, general)["bd_rate_ms_ssim_percent"]
        if loss is None or loss <= MOST_GENERAL_LOSS_PERCENT:
            out.mkdir(parents=True, exist_ok=True)
            for name in ("config.json", "history.jsonl", "log.jsonl"):
                shutil.copyfile(run / name, out / name)
            write_whole(out / "weights.safetensors", save(mixed))
            return {"share": share, "general_bd_rate_ms_ssim_percent": loss}
    raise ExportError(
        f"{run} costs other pictures more than {MOST_GENERAL_LOSS_PERCENT:g} % of bytes: train for fewer minutes, "
        "on more frames, or with more photographs"
    )


def gain(run: Path, start: Path, frames: Sequence[Frame]) -> dict[str, float | None]:
    """BD-rate (%) on frames of a run against the weights file that it began with; less is better."""
    old = CodecNet()
    load_weights(old, start)
    return bd_rates(old, open_run(run)[0], frames)
