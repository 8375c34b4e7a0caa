"""Networks of the codec: encoder, base decoder, and the gains that make one checkpoint span all rates.

    frame [B,3,H,W] 0..1 -> Encoder -> latent [B,96,H/16,W/16], KLT order -> Decoder(latent, q) -> picture [B,3,H,W]

Both ends are a linear path (the KLT of 16x16 patches, which already is a working transform codec) plus a residual
network whose last layer starts at zero, so training begins at the KLT and only learns improvements.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.entropy.schedule import CHANNELS, STRIDE
from export.networks.attention import stack


def start_at_zero(layer: nn.Conv2d) -> None:
    """Let a layer add nothing yet, so that what it is added to comes through as it is."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class MobileBlock(nn.Module):
    """x + project(depthwise 3x3(expand(x))): inverted residual of MobileNetV2 (Sandler et al. 2018), ReLU, no norm."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = nn.Conv2d(width, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.project = nn.Conv2d(inner, width, 1)
        start_at_zero(self.project)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [B, width, h, w] in and out."""
        return x + self.project(F.relu(self.depthwise(F.relu(self.expand(x)))))


def bend(x: Tensor) -> Tensor:
    """Leaky ReLU: with a plain one, 98 % of the deepest block's channels fell silent, for good."""
    return F.leaky_relu(x, 0.1)


class Modulation(nn.Module):
    """x * scale(q) + shift(q), channel by channel, linear between knots over the quality; at the start it is x.

    FiLM (Perez et al. 2018). A plane of q at the input alone does not do: trained for one rate, a decoder that had only
    that gained 1.4 dB within 60 steps.
    """

    def __init__(self, width: int, knots: int = 8) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(knots, width))
        self.shift = nn.Parameter(torch.zeros(knots, width))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """`x` [B, width, h, w] modulated for quality [B,1,1,1] in 0..1."""
        knots = self.scale.shape[0]
        place = quality.flatten(1) * (knots - 1)
        share = F.relu(1 - (place - torch.arange(knots, device=x.device)).abs())
        scale, shift = ((share @ part)[:, :, None, None] for part in (self.scale, self.shift))
        return x * (1 + scale) + shift


class ModulatedBlock(nn.Module):
    """x + conv(bend(modulated conv(bend(modulated x)))): a dense residual block that knows the quality."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = Modulation(width), Modulation(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """`x` [B, width, h, w] for quality [B,1,1,1] in 0..1; same shape out."""
        inner = self.first(bend(self.before(x, quality)))
        return x + self.second(bend(self.between(inner, quality)))


class ResidualBlock(nn.Module):
    """x + conv(bend(conv(bend(x)))): dense 3x3, for where multiply-adds are cheap (the flow decoder)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        start_at_zero(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 [B, width, h, w] in and out."""
        return x + self.second(bend(self.first(bend(x))))


class Encoder(nn.Module):
    """Latent of a frame: float32 [B,3,H,W], RGB 0..1, H and W multiples of 16 -> float32 [B,96,H/16,W/16].

    2.3 kMAC/pixel and 0.37 M parameters at the default widths. Nothing but the blocks bends the signal: with a ReLU
    between the stages as well, all channels fell silent early in training, for good.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), depths: tuple[int, int, int] = (1, 2, 3)) -> None:
        super().__init__()
        a, b, c = widths
        self.linear = nn.Conv2d(3, CHANNELS, STRIDE, stride=STRIDE, bias=False)
        self.residual = nn.Sequential(
            nn.Conv2d(3, a, 4, stride=4),
            *[MobileBlock(a) for _ in range(depths[0])],
            nn.Conv2d(a, b, 2, stride=2),
            *[MobileBlock(b) for _ in range(depths[1])],
            nn.Conv2d(b, c, 2, stride=2),
            *[MobileBlock(c) for _ in range(depths[2])],
        )
        self.last = nn.Conv2d(c, CHANNELS, 1)
        start_at_zero(self.last)

    def forward(self, frame: Tensor) -> Tensor:
        """The latent of `frame`."""
        return self.parts(frame)[0]

    def parts(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """The latent, and the hidden features at stride 16 that its last layer saw: [B, widths[-1], H/16, W/16].

        Always in float32, which takes as long as bfloat16: the gradient of the whole codec then has a cosine of 0.99
        with the exact one, in bfloat16 0.96.
        """
        with torch.autocast(frame.device.type, enabled=False):
            centred = frame.float() - 0.5
            hidden = self.residual(centred)
            return self.linear(centred) + self.last(hidden), hidden


class Teacher(Encoder):
    """The board's encoder with a Transformer stage at stride 16 on top, which a workstation can afford.

    9 kMAC/pixel and 1.6 M parameters. What the stage adds starts at zero, and is left out for a share of the crops in
    training, so the same decoders serve latents with and without it; `edgesem distill` then teaches the board's part
    what the stage added.
    """

    def __init__(self, width: int = 160, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, STRIDE, stride=STRIDE)
        self.mix = nn.Conv2d(self.last.in_channels, width, 1)
        self.stage = stack(width, depth)
        self.add = nn.Conv2d(width, CHANNELS, 1)
        start_at_zero(self.add)

    def forward(self, frame: Tensor, keep: Tensor | float = 1.0) -> Tensor:
        """`keep` [B,1,1,1] is 1 where the stage counts and 0 where the board's part stands alone."""
        latent, hidden = self.parts(frame)
        wide = self.stage(self.embed(frame - 0.5) + self.mix(hidden))
        return latent + keep * self.add(wide).float()


class Decoder(nn.Module):
    """Picture of a latent: float32 [B,96,h,w] and quality [B,1,1,1] in 0..1 -> float32 [B,3,16h,16w], about 0..1.

    Knowing the quality, it knows how coarse the quantizer steps were, and smooths accordingly.
    10.6 kMAC/pixel and 1.6 M parameters at the default widths.
    """

    channel_std: Tensor

    def __init__(self, widths: tuple[int, int, int] = (192, 96, 48), depths: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        a, b, c = widths
        self.register_buffer("channel_std", torch.ones(1, CHANNELS, 1, 1))
        self.linear = nn.ConvTranspose2d(CHANNELS, 3, STRIDE, stride=STRIDE, bias=False)
        self.stem = nn.Conv2d(CHANNELS + 1, a, 3, padding=1)
        self.deep = nn.ModuleList(ModulatedBlock(a) for _ in range(depths[0]))
        self.rise = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(a, 4 * b, 1), nn.PixelShuffle(2))
        self.middle = nn.ModuleList(ModulatedBlock(b) for _ in range(depths[1]))
        self.climb = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(b, 4 * c, 1), nn.PixelShuffle(2))
        self.fine = nn.ModuleList(ModulatedBlock(c) for _ in range(depths[2]))
        self.strength = Modulation(c)
        self.last = nn.Conv2d(c, 3 * 16, 3, padding=1)
        start_at_zero(self.last)

    def forward(self, latent: Tensor, quality: Tensor) -> Tensor:
        """The picture of `latent` at `quality`."""
        quality = quality.expand(latent.shape[0], 1, 1, 1)
        level = quality.expand(latent.shape[0], 1, latent.shape[2], latent.shape[3])
        hidden = self.stem(torch.cat([latent / self.channel_std, level], 1))
        for blocks, upwards in ((self.deep, self.rise), (self.middle, self.climb), (self.fine, None)):
            for block in blocks:
                hidden = block(hidden, quality)
            if upwards is not None:
                hidden = upwards(hidden)
        drawn = F.pixel_shuffle(self.last(self.strength(bend(hidden), quality)), 4)
        with torch.autocast(latent.device.type, enabled=False):
            linear = self.linear(latent.float())
        return linear + drawn.float() + 0.5


def large_decoder() -> Decoder:
    """A decoder for receivers that are computers: the base decoder and more blocks, 37 kMAC/pixel.

    With the base decoder's weights it draws what that draws until the added blocks are trained: they start at zero.
    Most of them work at stride 4, where they have few weights: 0.8 M are added to 1.6 M.
    """
    return Decoder(depths=(1, 4, 8))


class Gains(nn.Module):
    """How finely each channel is quantized at quality q: gain = 1/step, interpolated in the log domain between knots.

    Asymmetric gain units (Cui et al. 2021): the decoder's inverse gains are learned on their own.
    """

    def __init__(self, coarsest_step: float = 512 / 255, finest_step: float = 24 / 255, knots: int = 8) -> None:
        super().__init__()
        start = -torch.log(torch.full((knots,), coarsest_step))
        stop = -torch.log(torch.full((knots,), finest_step))
        ramp = torch.linspace(0, 1, knots)
        initial = (start * (1 - ramp) + stop * ramp)[:, None].repeat(1, CHANNELS)
        self.log_gain = nn.Parameter(initial)
        self.log_inverse = nn.Parameter(-initial)

    def forward(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and inverse gain, each [B,96,1,1], for quality [B,1,1,1] in 0..1."""
        place = quality.flatten().clamp(0, 1) * (self.log_gain.shape[0] - 1)
        below = place.floor().long().clamp(max=self.log_gain.shape[0] - 2)
        part = (place - below)[:, None]

        def at(knots: Tensor) -> Tensor:
            mixed = knots[below] * (1 - part) + knots[below + 1] * part
            return mixed.exp()[:, :, None, None]

        return at(self.log_gain), at(self.log_inverse)


@torch.no_grad()
def move_range(net: nn.Module, old: tuple[float, float], new: tuple[float, float]) -> None:
    """Let quality 0..1 of `net` span the weights of distortion `new` where it spanned `old`, (lowest, highest) each.

    All knots over the quality are read at the places that had those weights, on a log grid, beyond the ends along the
    outermost pieces. What sees the quality as a plane (stem, context model) is left to training: the curve of rate and
    distortion stays within half a percent even without.
    """
    (low, high), (new_low, new_high) = ([math.log(end) for end in ends] for ends in (old, new))

    def moved(knots: Tensor) -> Tensor:
        last = len(knots) - 1
        place = (torch.linspace(new_low, new_high, len(knots)) - low) / (high - low) * last
        below = place.floor().long().clamp(0, last - 1)
        part = (place - below)[:, None]
        return knots[below] * (1 - part) + knots[below + 1] * part

    for module in net.modules():
        if isinstance(module, Gains | Modulation):
            for knots in module.parameters(recurse=False):
                knots.copy_(moved(knots))


def klt_basis(crops: Tensor) -> tuple[Tensor, Tensor]:
    """The CHANNELS strongest principal axes of 16x16 RGB patches, and the standard deviation along each.

    crops: float32 [N,3,H,W], 0..1. Returns basis [96,3,16,16] (orthonormal rows, largest variance first) and std [96].
    """
    patches = F.unfold(crops - 0.5, STRIDE, stride=STRIDE)  # [N, 768, positions]
    flat = patches.permute(1, 0, 2).reshape(patches.shape[1], -1).double()
    covariance = flat @ flat.T / flat.shape[1]
    variance, axes = torch.linalg.eigh(covariance)
    top = axes[:, -CHANNELS:].flip(1).T.float()
    return top.reshape(CHANNELS, 3, STRIDE, STRIDE), variance[-CHANNELS:].flip(0).sqrt().float()
