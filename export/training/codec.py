"""Training of the codec: encoder, base decoder, gains and context model together, by rate and distortion.

    crops -> Encoder -> * gain(q) -> ContextModel (rounding in the loop) -> / gain(q) -> Decoder -> distortion
                                           `-> bits of the symbols

Everything starts from the KLT of the user's photographs (export.networks.codec.klt_basis), worth an hour of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import CHANNELS, GROUPS, STRIDE
from edgesem.entropy.tables import SMALLEST_WIDTH, WIDTH_RATIO
from edgesem.errors import InputError
from export.data.crops import Crops
from export.networks.codec import Decoder, Encoder, Gains, Teacher, klt_basis, move_range
from export.networks.context import ContextModel, group_of_channel
from export.training.loop import Progress, RunOptions, RunSettings, device_of, read_settings, read_weights, run
from export.training.losses import ms_ssim, psnr_db, rate
from export.training.ssimulacra2 import distance

STAGE = ("encoder.embed.", "encoder.mix.", "encoder.stage.", "encoder.add.")  # what only a teacher has
KLT_CROPS = 600  # of photographs, from which linear paths and normalisation begin
MS_SSIM_WEIGHT = 1800.0  # (1 - MS-SSIM) * 1800 is about 255^2 * MSE between 24 and 30 dB
SSIMULACRA2_WEIGHT = 10.0  # of 100 * log(1 + distance / 100), which is as steep as MS-SSIM's then
FLAT_WEIGHT = 2.5  # of squared error in means over 16x16 pixels, for each share of MS-SSIM
BROAD_WEIGHT = 10.0  # of that in means over 64x64 pixels: a drift of brightness that the latent would not need


@dataclass(frozen=True)
class TrainConfig(RunSettings):
    """Settings of a run of the codec."""

    crop: int = 192
    batch: int = 8
    lambda_low: float = 1.3e-4
    lambda_high: float = 1.7e-2
    ms_ssim: float = 0.6
    ms_ssim_from: float = 0.3
    ssimulacra2: float = 0.0
    """Part of MS-SSIM's share that goes to SSIMULACRA2."""
    nested_dropout: float = 0.1
    teacher: bool = True
    without_stage: float = 0.5
    start: str = ""
    """Name of the weights' file that the run began with; the KLT if empty."""
    start_range: tuple[float, float] | None = None
    """lambda_low and lambda_high that those were trained for, if others than this run's."""
    only_decoder: bool = False
    """Encoder, gains and context model stay as they are: packets and all that was trained on latents keep fitting."""


class CodecNet(nn.Module):
    """The whole codec as one trainable module, with the board's encoder or the teacher's."""

    def __init__(self, *, teacher: bool = False) -> None:
        super().__init__()
        self.encoder = Teacher() if teacher else Encoder()
        self.decoder = Decoder()
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

    def forward(
        self, frame: Tensor, level: Tensor, layers: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Picture [B,3,H,W] and bits per pixel [B] at `level` (float32 [B,1,1,1], 0..255) from `layers` groups.

        `keep` [B,1,1,1] is 0 where a teacher's stage is left out.
        """
        return self.draw(frame, level, layers, keep)[:2]

    def draw(
        self, frame: Tensor, level: Tensor, layers: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, and the decoded latent [B,96,H/16,W/16]."""
        latent, bpp = self.send(frame, level, layers, keep)
        return self.decoder(latent, level / LEVELS), bpp, latent

    def send(self, frame: Tensor, level: Tensor, layers: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decoded latent [B,96,H/16,W/16] and bits per pixel [B], as of `forward`, without drawing it."""
        gain, inverse = self.gains(level / LEVELS)
        scaled = (self.encoder(frame) if keep is None else self.encoder(frame, keep)).float() * gain
        with torch.autocast(frame.device.type, enabled=False):
            values, mean, scale = self.context(scaled, level, layers)
            bits = rate(scaled - mean, scale)
        sent = group_of_channel().to(frame.device).view(1, CHANNELS, 1, 1) < layers
        bpp = (bits * sent).sum((1, 2, 3)) / (frame.shape[2] * frame.shape[3])
        return values * inverse, bpp

    def redraw(self, frame: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Base picture and decoded latent of a frame at `level`, all layers sent."""
        picture, _, latent = self.draw(frame, level, torch.full_like(level, len(GROUPS)))
        return picture, latent


def spread_levels(count: int) -> Tensor:
    """Random levels 0..255, float32 [count,1,1,1], one from each of `count` equal parts of the range.

    How large a loss is depends on the level more than on the picture, so batches of even spread tell more about both.
    """
    place = (torch.arange(count) + torch.rand(count)) / count
    return (place * (LEVELS + 1)).floor().clamp(max=LEVELS).view(count, 1, 1, 1)


def random_sending(count: int, dropout: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random levels, as of `spread_levels`, and how many layers are sent: all, or with probability `dropout` fewer.

    Both [count,1,1,1].
    """
    level = spread_levels(count).to(device)
    fewer = torch.rand(count, 1, 1, 1, device=device) < dropout
    return level, torch.where(fewer, torch.randint(1, len(GROUPS), fewer.shape, device=device), len(GROUPS))


def lambda_of(quality: Tensor, config: TrainConfig) -> Tensor:
    """Weight of distortion at quality 0..1, on a log grid."""
    low, high = math.log(config.lambda_low), math.log(config.lambda_high)
    return torch.exp(low + (high - low) * quality)


def loss_of(net: nn.Module, frame: Tensor, config: TrainConfig, done: float) -> tuple[Tensor, dict[str, float]]:
    """Rate-distortion loss of one batch at random qualities, and what to log of it. `done` is 0..1 of the run."""
    batch = frame.shape[0]
    level, layers = random_sending(batch, config.nested_dropout, frame.device)
    if config.only_decoder:
        codec = cast(CodecNet, net)
        with torch.no_grad():
            latent, bpp = codec.send(frame, level, layers)
        drawn, figures = drawing_loss(codec.decoder(latent, level / LEVELS), frame, level, config, done)
        return drawn, {"bpp": bpp.mean().item(), **figures}
    keep = (torch.rand(batch, 1, 1, 1, device=frame.device) >= config.without_stage).float() if config.teacher else None
    picture, bpp = net(frame, level, layers, keep)
    distortion, figures = base_distortion(picture, frame, config, done)
    weight = lambda_of(level.flatten() / LEVELS, config)
    loss = ((bpp + weight * distortion) / weight.sqrt()).mean()
    return loss, {"bpp": bpp.mean().item(), **figures}


def base_distortion(
    picture: Tensor, frame: Tensor, config: TrainConfig, done: float
) -> tuple[Tensor, dict[str, float]]:
    """Squared error, MS-SSIM and SSIMULACRA2 of base pictures, mixed as `config` says, [B]; and what to log of it.

    MS-SSIM hardly sees brightness and colour drift: with it alone, a third of all squared error was in the means of
    64x64 pixels, which cost next to no bits. So the squared error of means counts fully and more, whatever the mix.
    """
    error = picture.float() - frame
    mse = error.square().mean((1, 2, 3))
    figures = {"psnr": psnr_db(mse)}
    share = config.ms_ssim * min(1.0, max(0.0, (done - config.ms_ssim_from) / 0.1))
    if share == 0:
        return 255**2 * mse, figures
    similarity = ms_ssim(picture.float().clamp(0, 1), frame, every=2)
    means = F.avg_pool2d(error, STRIDE)
    flat = FLAT_WEIGHT * means.square().mean((1, 2, 3))
    broad = BROAD_WEIGHT * F.avg_pool2d(means, 64 // STRIDE).square().mean((1, 2, 3))
    squared = (1 - share) * mse + share * (flat + broad)
    figures["ms_ssim"] = similarity.mean().item()
    distortion = 255**2 * squared + share * (1 - config.ssimulacra2) * MS_SSIM_WEIGHT * (1 - similarity)
    if config.ssimulacra2:  # every second picture of the batch, by turns: it takes as long as MS-SSIM
        turn = slice(int(torch.randint(0, 2, ())) % len(frame), None, 2)
        far = distance(picture[turn].float(), frame[turn])
        figures["ssimulacra2"] = 100 - far.median().item()
        far = 100 * torch.log1p(
            far / 100
        )  # where noise is lost the score falls without bound, and would drown the rest
        extra = torch.zeros_like(distortion)
        extra[turn] = 2 * share * config.ssimulacra2 * SSIMULACRA2_WEIGHT * far
        distortion = distortion + extra
    return distortion, figures


def drawing_loss(
    picture: Tensor, frame: Tensor, level: Tensor, config: TrainConfig, done: float
) -> tuple[Tensor, dict[str, float]]:
    """Loss of pictures of packets whose bits are what they are, drawn at `level` [B,1,1,1]; and what to log of it."""
    distortion, figures = base_distortion(picture, frame, config, done)
    return (lambda_of(level.flatten() / LEVELS, config).sqrt() * distortion).mean(), figures


def train(
    config: TrainConfig,
    out: Path,
    *,
    start: Path | None = None,
    progress: Progress,
    options: RunOptions | None = None,
) -> Path:
    """Train until `config.minutes` are spent and return the averaged weights' file.

    Continues when `out` holds a checkpoint; `start` names a weights file to begin from instead of the KLT.
    `progress(done, figures)` is called about once a second. Raises InputError for unusable data or weights.
    """
    torch.manual_seed(config.seed)
    device = device_of(options)
    crops = Crops(Path(config.data), config.crop, config.seed, device=device)
    net = CodecNet(teacher=config.teacher)
    if start is not None:
        load_weights(net, start)
        if config.start_range is not None:
            move_range(net, config.start_range, (config.lambda_low, config.lambda_high))
        config = replace(config, ms_ssim_from=-1.0)  # the part with squared error alone is behind it
    elif not (out / "checkpoint.pt").exists():
        net.start_from_klt(crops.batch(KLT_CROPS))
    if config.only_decoder:
        for part in (net.encoder, net.gains, net.context):
            part.requires_grad_(False)

    def loss(net: nn.Module, done: float, accelerator: Accelerator) -> tuple[Tensor, dict[str, float]]:
        frame = crops.varied_batch(config.batch)
        return loss_of(net, frame, config, done)

    return run(net, config, out, loss, progress, options, resumed=crops.restart)


def load_weights(net: nn.Module, path: Path) -> None:
    """Load averaged weights that a run wrote. Raises InputError when they do not fit this network.

    A teacher may begin from a board's encoder, and a board's encoder from a teacher: the stage between them stays as it
    is, or is left out. Of a run in which codec and flow decoder learned together (export.training.joint) it takes its
    part.
    """
    state = read_weights(path)
    try:
        part = "codec." if isinstance(net, CodecNet) else "flow."
        own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
        result = net.load_state_dict(own or state, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path} does not hold weights of this network: {error}") from error
    strange = [key for key in (*result.missing_keys, *result.unexpected_keys) if not key.startswith(STAGE)]
    if strange:
        raise InputError(f"{path} does not hold weights of this network: {', '.join(strange[:3])} not matched")


def open_run(run: Path) -> tuple[CodecNet, TrainConfig]:
    """The averaged weights of a run and what it was asked to do. Raises InputError when the folder holds no run."""
    config = read_settings(run, TrainConfig)
    net = CodecNet(teacher=config.teacher)
    load_weights(net, run / "weights.safetensors")
    return net.eval(), config
