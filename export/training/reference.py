"""Training of the context model of inter frames, on an encoder, gains and keyframes that stay as they are.

    picture 0 -> keyframe -> decoded -> picture 1 -> decoded -> picture 2 -> ...: bits of all but picture 0

Each picture refers to what a receiver has of the one before, at a quality of its own, so the model learns to refine,
to coarsen and to go on. Bits count, and how far what is decoded is from what the encoder saw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import GROUPS, MEAN_GRID, PASSES, STRIDE, positions
from edgesem.errors import InputError
from export.data.sequences import Sequences
from export.networks.context import centred
from export.networks.reference import ReferenceModel, reference_of
from export.training.codec import CodecNet, open_run
from export.training.loop import Progress, RunOptions, device_of, read_weights, run
from export.training.losses import rate, symbol_bits

_NEAR = 25  # levels between a picture and its reference, mostly: a link's rate changes slowly
_CURVE_KNOTS = 9
_ERROR_BITS = 15.0  # that a squared step of error is worth: more than where quantization is fine (8.66, as dD/dR there)

Sample = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class ReferenceConfig:
    """Settings of a run. codec: folder of the codec's run; pool: how many sequences are held in memory."""

    data: str
    codec: str
    minutes: float
    clips: str | None = None
    crop: int = 256
    batch: int = 8
    pool: int = 400
    learning_rate: float = 1.5e-3
    final_learning_rate: float = 3e-5
    fewer_layers: float = 0.1
    average: float = 0.995
    seed: int = 0


def train_reference(
    config: ReferenceConfig,
    out: Path,
    *,
    start: Path | None = None,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train until `config.minutes` are spent and return the averaged weights' file, as `export.training.codec.train`
    does.

    `start` names the weights that an earlier run wrote, perhaps for an earlier state of the codec; without, it begins
    with the codec's own context model. Raises InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    codec, _ = open_run(Path(config.codec))
    device = device_of(options)
    codec.requires_grad_(False).to(device)
    clips = None if config.clips is None else Path(config.clips)

    sequences = Sequences(codec.encoder, Path(config.data), clips, crop=config.crop, seed=config.seed)
    pool = Pool(codec, sequences, config, lambda count: progress(0.0, {"sequences": count}))
    net = ReferenceModel(codec.context)
    if start is not None:
        try:
            net.load_state_dict(read_weights(start))
        except RuntimeError as error:
            raise InputError(f"{start} does not hold weights of a run of edgesem train --reference: {error}") from error
    usual = usual_bits(codec, pool.draw(16)[0][0])

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(accelerator.device.type, enabled=False):
            pool.add()
            sample = pool.draw(config.batch)
            return loss_of(net, codec, sample, usual)

    return run(net, config, out, loss, progress, options, resumed=sequences.restart)


class Pool:
    """Sequences whose first picture was sent as a keyframe: one is made and one forgotten at each `add`."""

    def __init__(
        self, codec: CodecNet, sequences: Sequences, config: ReferenceConfig, progress: Callable[[int], None]
    ) -> None:
        self._codec, self._sequences, self._config = codec, sequences, config
        self._kept: deque[Sample] = deque(maxlen=config.pool)
        for count in range(config.pool):
            self.add()
            progress(count + 1)

    @torch.no_grad()
    def add(self) -> None:
        """Encode and decode a new sequence, in place of the oldest."""
        latents, config = self._sequences.next(), self._config
        level = torch.randint(0, LEVELS + 1, (1, 1, 1, 1)).float().to(latents.device)
        fewer = torch.rand(()) < config.fewer_layers
        layers = torch.full_like(level, int(torch.randint(1, len(GROUPS), ())) if fewer else len(GROUPS))
        gain, _ = self._codec.gains(level / LEVELS)
        known = self._codec.context(latents[:1] * gain, level, layers)[0] / gain
        self._kept.append((latents[1:, None].half(), known.half(), level))

    def draw(self, count: int) -> Sample:
        """Latents [T,B,96,h,w], what the first refers to [B,96,h,w], and the level of that [B,1,1,1]."""
        parts = [self._kept[int(torch.randint(0, len(self._kept), ()))] for _ in range(count)]
        latents, known, level = zip(*parts, strict=True)
        return torch.cat([x.float() for x in latents], 1), torch.cat([x.float() for x in known]), torch.cat(level)


def loss_of(net: nn.Module, codec: CodecNet, sample: Sample, usual: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cost of predicted pictures over the bits that keyframes of that quality usually have."""
    latents, known, level = sample
    length, count = latents.shape[:2]
    levels = [level]
    for _ in range(length):
        levels.append(_next_level(levels[-1]))
    gains = [codec.gains(one / LEVELS)[0] for one in levels[1:]]
    results = net(latents, torch.stack(levels[1:]), torch.stack(gains), known, level)
    pixels = count * latents.shape[3] * latents.shape[4] * STRIDE**2
    total, share, bpps = latents.new_zeros(()), latents.new_zeros(()), []
    for (residual, scale, _), one in zip(results, levels[1:], strict=True):
        bits = rate(residual, scale)
        error = residual - centred(residual.detach().round(), scale) / MEAN_GRID
        cost = bits + _ERROR_BITS * error.square()
        with torch.no_grad():  # symbols stand by pass, channel and then picture
            weight = by_symbol(1 / interpolated(usual, one.flatten()), latents.shape[3], latents.shape[4])
        total = total + (cost * weight).sum() / pixels
        share = share + (bits.detach() * weight).sum() / pixels
        bpps.append(bits.detach().sum().item() / pixels)
    return total / length, {"bpp": sum(bpps) / length, "share": (share / length).item()}


def by_symbol(of_picture: Tensor, height: int, width: int) -> Tensor:
    """A number for each picture of a batch, spread over its symbols in the order in which `ReferenceModel` has them."""
    parts = []
    for index, sweep in enumerate(PASSES):
        row = of_picture.repeat_interleave(len(positions(index, height, width)))
        parts.append(row.expand(sweep.stop - sweep.start, -1).reshape(-1))
    return torch.cat(parts)


def _next_level(level: Tensor) -> Tensor:
    """The same as the last one, near it, or sometimes anywhere."""
    near = (level + torch.randn_like(level) * _NEAR).round().clamp(0, LEVELS)
    far = torch.randint(0, LEVELS + 1, level.shape, device=level.device).float()
    chance = torch.rand_like(level)
    return torch.where(chance < 0.4, level, torch.where(chance < 0.85, near, far))


@torch.no_grad()
def usual_bits(codec: CodecNet, latents: Tensor) -> Tensor:
    """Bits per pixel of keyframes at _CURVE_KNOTS levels, spread evenly over 0..255."""
    pixels = latents.shape[2] * latents.shape[3] * STRIDE**2
    rows = []
    for level in torch.linspace(0, LEVELS, _CURVE_KNOTS).round():
        plane = level.to(latents.device).view(1, 1, 1, 1).expand(len(latents), 1, 1, 1)
        scaled = latents * codec.gains(plane / LEVELS)[0]
        _, mean, scale = codec.context(scaled, plane, torch.full_like(plane, len(GROUPS)))
        rows.append(symbol_bits((scaled - mean).round(), scale).sum() / pixels / len(latents))
    return torch.stack(rows)


def interpolated(knots: Tensor, level: Tensor) -> Tensor:
    """A curve over the levels, between its knots."""
    place = level / LEVELS * (len(knots) - 1)
    below = place.floor().long().clamp(max=len(knots) - 2)
    part = place - below
    return knots[below] * (1 - part) + knots[below + 1] * part


def open_reference(run: Path, codec: CodecNet) -> ReferenceModel:
    """The averaged weights of a run. Raises InputError when the folder holds none that fit this codec's model."""
    try:
        return reference_of(codec.context, read_weights(run / "weights.safetensors"))
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{run} does not hold a run of edgesem train --reference that fits this codec: {error!r}"
        ) from error
