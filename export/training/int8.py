"""Training of the base decoder for int8: rounding in the loop, while encoder, gains and context model stay.

Packets stay what they are: only the drawing of them learns, and learns to bear what an int8 graph rounds. Ranges of
values are learned with it. `edgesem quantize --part decoder --run RUN` makes the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.codec.latent import LEVELS
from edgesem.errors import InputError
from export.data.crops import Crops
from export.networks.codec import Decoder
from export.quantization.ranges import STEPS, best_range
from export.training.codec import TrainConfig, drawing_loss, open_run, random_sending
from export.training.loop import Progress, RunOptions, device_of, read_settings, read_weights, run

_LARGEST = 127  # of a signed weight
_PACE = 20.0  # of the ends of ranges, as logarithms, against weights: they may have far to go
_CALIBRATION_BATCHES = 12
_SAMPLES = 10_000  # values of a tensor and batch that its range is chosen for

_BLOCKS = ("deep.0", "middle.0", "fine.0")
_ROUNDED = (*(f"{block}.{layer}" for block in _BLOCKS for layer in ("first", "second")), "rise.1", "last")  # layers

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Int8Config(TrainConfig):
    """Settings of a run of an int8 decoder. codec: folder of the codec's run."""

    codec: str = ""
    crop: int = 256
    batch: int = 4
    learning_rate: float = 3e-4
    teacher: bool = False
    ms_ssim_from: float = -1.0


class Rounding(nn.Module):
    """Rounding of a tensor to the 256 values of a byte, over a range that is learned.

    Gradients go through as if it were not there; those of the ends of the range come from what is cut off there, and
    from how coarse the steps are (Esser et al. 2020). Until `start` it changes nothing. Any shape in, the same out.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.zeros(()))
        self.register_buffer("highest", torch.zeros(()))
        self.below, self.above = (nn.Parameter(torch.zeros(())) for _ in range(2))  # by how much the ends have moved

    def start(self, lowest: float, highest: float) -> None:
        """Begin to round, to a range that holds 0."""
        self.lowest.fill_(min(0.0, lowest))
        self.highest.fill_(max(0.0, highest))

    def range(self) -> tuple[Tensor, Tensor]:
        """What 0 and 255 stand for, as learned so far."""
        return self.lowest * (_PACE * self.below).exp(), self.highest * (_PACE * self.above).exp()

    def forward(self, x: Tensor) -> Tensor:
        """`x`, rounded."""
        if self.highest == self.lowest:
            return x
        with torch.autocast(x.device.type, enabled=False):
            low, high = self.range()
            step = (high - low) / STEPS
            zero = _nearest(-low / step)
            return step * ((_nearest(x.float() / step) + zero).clamp(0, STEPS) - zero)


def _nearest(x: Tensor) -> Tensor:
    """The nearest whole numbers, with the gradient of `x`."""
    return x + (x.round() - x).detach()


def rounded_weight(weight: Tensor) -> Tensor:
    """Weights [out, in, kernel] as signed bytes hold them, with a scale for each output channel; the same gradient."""
    step = (weight.detach().abs().amax((1, 2, 3)) / _LARGEST).clamp(min=1e-12)
    zeros = torch.zeros_like(step, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, step, zeros, 0, -_LARGEST, _LARGEST)


class Int8Conv(nn.Conv2d):
    """Convolution as a graph of bytes computes it: input, weights and output are rounded."""

    def __init__(self, of: nn.Conv2d) -> None:
        super().__init__(of.in_channels, of.out_channels, of.kernel_size, of.stride, of.padding)  # type: ignore[arg-type]
        self.load_state_dict(of.state_dict())
        self.before, self.after = Rounding(), Rounding()

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [B, in, h, w] -> [B, out, h, w]."""
        weight = rounded_weight(self.weight) if self.before.highest > self.before.lowest else self.weight
        return self.after(F.conv2d(self.before(x), weight, self.bias, self.stride, self.padding))


def int8_decoder(decoder: Decoder) -> Decoder:
    """A decoder of the same weights that rounds where its int8 graph does, once its ranges are known.

    What has many multiply-adds and bears it is rounded: 88 % of them. In float stay the layer that reads the latent and
    the one that makes the finest features: rounding these two cost as much rate as all others together. So do the
    residual sums, and the linear path, for which ONNX Runtime has no integer kernel.
    """
    net = Decoder()
    net.load_state_dict(decoder.state_dict())
    for name in _ROUNDED:
        net.set_submodule(name, Int8Conv(cast(nn.Conv2d, net.get_submodule(name))))
    return net


def roundings(net: nn.Module) -> Iterator[tuple[str, Rounding]]:
    """All roundings of a network with their names, such as fine.0.first.before."""
    return ((name, module) for name, module in net.named_modules() if isinstance(module, Rounding))


@torch.no_grad()
def calibrate(net: Decoder, batch: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Start all ranges of a decoder with those of least squared error on what it sees: latents and qualities."""
    seen: dict[str, list[Tensor]] = {name: [] for name, _ in roundings(net)}
    ends: dict[str, list[tuple[float, float]]] = {name: [] for name in seen}

    def keep(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float().flatten()
        ends[name].append((float(values.min()), float(values.max())))
        seen[name].append(values[torch.randint(len(values), (min(_SAMPLES, len(values)),))])

    hooks = [module.register_forward_pre_hook(partial(keep, name)) for name, module in roundings(net)]
    for _ in range(_CALIBRATION_BATCHES):
        net(*batch())
    for hook in hooks:
        hook.remove()
    for name, module in roundings(net):
        lowest, highest = min(low for low, _ in ends[name]), max(high for _, high in ends[name])
        module.start(*best_range(torch.cat(seen[name]).numpy(force=True), min(0.0, lowest), max(0.0, highest)))


def train_int8(
    config: Int8Config,
    out: Path,
    *,
    start: Path | None = None,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train an int8 decoder for the codec in run folder `config.codec`; returns its averaged weights' file.

    It begins with the codec's own decoder, or with the weights file `start` of an earlier run. Raises InputError for
    unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    codec, _ = open_run(Path(config.codec))
    codec = codec.requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net = int8_decoder(codec.decoder).to(device)
    net.linear.requires_grad_(False)

    def sent() -> tuple[Tensor, Tensor, Tensor]:
        """A batch of frames, their latents as a receiver has them, and their levels."""
        frame = crops.varied_batch(config.batch)
        level, layers = random_sending(config.batch, config.nested_dropout, frame.device)
        with torch.no_grad():
            return frame, codec.send(frame, level, layers)[0], level

    def shown() -> tuple[Tensor, Tensor]:
        _, latent, level = sent()
        return latent, level / LEVELS

    if start is not None:
        _load(net, start)
    elif not (out / "checkpoint.pt").exists():
        calibrate(net, shown)

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame, latent, level = sent()
        return drawing_loss(net(latent, level / LEVELS), frame, level, config, done)

    return run(net, config, out, loss, progress, options, resumed=crops.restart)


def open_int8(run: Path) -> tuple[Decoder, Ranges]:
    """The plain decoder with the averaged weights of a run's folder, and its ranges by the names of `roundings`.

    Raises InputError when the folder holds no run of an int8 decoder.
    """
    config = read_settings(run, Int8Config)
    if not config.codec:
        raise InputError(f"{run} holds no run of edgesem train --decoder-int8")
    plain = Decoder()
    net = int8_decoder(plain)
    _load(net, run / "weights.safetensors")
    with torch.no_grad():
        ranges = {
            name: (float(low), float(high)) for name, rounding in roundings(net) for low, high in [rounding.range()]
        }
    if not all(math.isfinite(low) and low < high < math.inf for low, high in ranges.values()):
        raise InputError(f"{run}: its ranges are no ranges: train it anew")
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if name in plain.state_dict()})
    return plain.eval(), ranges


def _load(net: Decoder, path: Path) -> None:
    try:
        net.load_state_dict(read_weights(path))
    except RuntimeError as error:  # which names every layer
        raise InputError(f"{path} holds no weights of edgesem train --decoder-int8: other layers or shapes") from error
