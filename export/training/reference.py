"""Training of the context model of inter frames, on an encoder, gains and keyframes that stay as they are.

    picture 0 -> keyframe -> decoded -> picture 1 -> decoded -> picture 2 -> ...: bits of all but picture 0

Each picture refers to what a receiver has of those before, at a quality of its own, so the model learns to refine, to
coarsen and to go on. The sender's rule says which positions are copied (edgesem.codec.copying), so the model learns
what is left to code beside them.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgesem.codec.copying import Copying
from edgesem.codec.latent import LEVELS, Latent
from edgesem.entropy.schedule import GROUPS, MEAN_GRID, STRIDE
from edgesem.errors import InputError
from edgesem.packet import copy_map
from export.data.sequences import Sequences
from export.networks.context import centred
from export.networks.reference import ReferenceModel, reference_of
from export.training.codec import CodecNet, open_run
from export.training.loop import Progress, RunOptions, RunSettings, device_of, read_weights, run
from export.training.losses import rate, symbol_bits

_NEAR = 25  # levels between a picture and its reference, mostly: a link's rate changes slowly
_CURVE_KNOTS = 9
_ERROR_BITS = 15.0  # that a squared step of error is worth: more than where quantization is fine (8.66, as dD/dR there)

_LEAST_SHARE = 0.02  # of a keyframe's bits: pictures with fewer weigh no more


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig(RunSettings):
    """Settings of a run. codec: folder of the codec's run; pool: how many sequences are held in memory.

    Shares of pictures: fewer_layers, of keyframes that lack some; without_copies, of streams; lost, of frames.
    """

    codec: str
    clips: str | None = None
    pool: int = 400
    learning_rate: float = 1.5e-3
    final_learning_rate: float = 3e-5
    fewer_layers: float = 0.1
    without_copies: float = 0.15
    lost: float = 0.1
    average: float = 0.995


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
    random.seed(config.seed)
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
    usual = usual_bits(codec, pool.draw(16)[0][1])

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast(accelerator.device.type, enabled=False):
            pool.add()
            latents, streams = pool.draw(config.batch)
            return loss_of(net, codec, latents, streams, usual, config.lost)

    return run(net, config, out, loss, progress, options, resumed=sequences.restart)


class Streams:
    """What receivers hold of a batch of streams, and so what the next frame of each may refer to.

    known, origin: float32 [B,96,h,w], as the encoder would have it: what was decoded, and what each position was coded
    from. (A decoder's inverse gains shrink most channels to a fifth. What was shrunk is no prediction of what comes
    next.) levels: [B,1,h,w], 0..255. deciders: one for each stream that copies.
    """

    def __init__(self, known: Tensor, origin: Tensor, level: Tensor, deciders: list[Copying | None]) -> None:
        self.known, self.origin, self.level = known, origin, level
        self.levels = level.expand(-1, 1, *known.shape[2:])
        self._deciders = deciders

    def look(self, latents: Tensor) -> None:
        """Let each stream learn the noise of its sensor from its next frame, [B,96,h,w]."""
        for latent, decider in zip(latents, self._deciders, strict=True):
            if decider is not None:
                decider.look(_latent(latent))

    def copied(self, latents: Tensor, gain: Tensor, level: Tensor, refined_bytes: list[float]) -> Tensor:
        """The positions that a sender would copy, bool [B,1,h,w]."""
        copied = torch.zeros_like(self.levels, dtype=torch.bool)
        for index, decider in enumerate(self._deciders):
            if decider is None:
                continue
            levels = self.levels[index, 0].byte().cpu().numpy()
            origin = self.origin[index].cpu().numpy()
            reference = replace(_latent(self.known[index]), level=0, copied_levels=levels, origin=origin)
            differences = decider.against(_latent(latents[index]), reference, copy_map.MAX_BYTES)
            wanted = np.full(levels.shape, int(level[index]), np.int32)
            if copies := differences.copies(gain[index].cpu().numpy(), wanted, refined_bytes[index]):
                copied[index, 0] = torch.from_numpy(copies.mask)
        return copied

    def receive(self, latents: Tensor, decoded: Tensor, level: Tensor, copied: Tensor, arrived: Tensor) -> None:
        """Take what was coded of frames, where they arrived, [B,1,1,1]."""
        fresh = arrived & ~copied
        self.known = torch.where(fresh, decoded, self.known)
        self.origin = torch.where(fresh, latents, self.origin)
        self.levels = torch.where(fresh, level, self.levels)
        self.level = level


class Pool:
    """Sequences whose first picture was sent as a keyframe: one is made and one forgotten at each `add`."""

    def __init__(
        self, codec: CodecNet, sequences: Sequences, config: ReferenceConfig, progress: Callable[[int], None]
    ) -> None:
        self._codec, self._sequences, self._config = codec, sequences, config
        self._kept: deque[tuple[Tensor, Tensor, Tensor, bool]] = deque(maxlen=config.pool)
        for count in range(config.pool):
            self.add()
            progress(count + 1)

    @torch.no_grad()
    def add(self) -> None:
        """Encode and decode a new sequence, in place of the oldest."""
        latents, config = self._sequences.next(), self._config
        level = torch.randint(0, LEVELS + 1, (1, 1, 1, 1)).float().to(latents.device)
        fewer = bool(torch.rand(()) < config.fewer_layers)
        layers = torch.full_like(level, int(torch.randint(1, len(GROUPS), ())) if fewer else len(GROUPS))
        gain, _ = self._codec.gains(level / LEVELS)
        known = self._codec.context(latents[:1] * gain, level, layers)[0] / gain
        self._kept.append((latents[:, None].half(), known.half(), level, fewer))

    def draw(self, count: int) -> tuple[Tensor, Streams]:
        """Latents [1+T,B,96,h,w], and what is held of the streams after the first."""
        parts = [self._kept[int(torch.randint(0, len(self._kept), ()))] for _ in range(count)]
        latents = torch.cat([part[0] for part in parts], 1).float()
        known, level = torch.cat([part[1] for part in parts]).float(), torch.cat([part[2] for part in parts])
        fewer = torch.tensor([part[3] for part in parts], device=level.device).view_as(level)
        origin = torch.where(fewer, known, latents[0])  # only of a whole frame does its sender know it
        copies = (torch.rand(count) >= self._config.without_copies).tolist()
        streams = Streams(known, origin, level, [Copying() if one else None for one in copies])
        streams.look(latents[0])
        return latents, streams


def loss_of(
    net: nn.Module, codec: CodecNet, latents: Tensor, streams: Streams, usual: Tensor, lost: float
) -> tuple[Tensor, dict[str, float]]:
    """Cost of predicted pictures over the bits that keyframes of that quality usually have.

    A picture that costs little weighs more than its bits: what is saved of it is as great a share of what a camera
    sends while nothing happens. `lost` is the share of frames that never arrive.
    """
    count, pixels = latents.shape[1], latents.shape[3] * latents.shape[4] * STRIDE**2
    integers = net.integers()  # type: ignore[operator]
    total, shares, kept = latents.new_zeros(()), [], []
    for latent in latents[1:]:
        level = _next_level(streams.level)
        gain, _ = codec.gains(level / LEVELS)
        keyframe_bits = interpolated(usual, level.flatten()) * pixels
        streams.look(latent)
        copied = streams.copied(latent, gain, level, _room(keyframe_bits / 8))
        coded = net(latent * gain, level, streams.known * gain, streams.levels, copied, integers)
        bits = rate(coded.residual, coded.scale)
        error = coded.residual - centred(coded.residual.detach().round(), coded.scale) / MEAN_GRID
        cost = bits + _ERROR_BITS * error.square()
        share = bits.new_zeros(count).index_add(0, coded.picture, bits.detach()) / keyframe_bits
        weight = share.clamp(min=_LEAST_SHARE).rsqrt() / keyframe_bits
        total = total + (cost * weight[coded.picture]).sum() / count
        streams.receive(latent, coded.decoded / gain, level, copied, torch.rand_like(level) >= lost)
        shares.append(share.mean().item())
        kept.append(copied.float().mean().item())
    return total / len(shares), {"share": fmean(shares), "copied": fmean(kept)}


def _latent(values: Tensor) -> Latent:
    """[96,h,w] as a sender has it."""
    return Latent(values.cpu().numpy(), values.shape[2] * STRIDE, values.shape[1] * STRIDE)


def _room(keyframe_bytes: Tensor) -> list[float]:
    """Bytes for making finer what has not changed, as rate control has them: a part of a keyframe's, or any number."""
    part = [random.uniform(0.02, 0.5) if random.random() < 0.5 else math.inf for _ in range(len(keyframe_bytes))]
    return [one * some for one, some in zip(part, keyframe_bytes.tolist(), strict=True)]


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
