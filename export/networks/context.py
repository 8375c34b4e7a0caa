"""Context model as it is trained: integer arithmetic carried in float32, with straight-through gradients.

Every layer computes floor(power_of_two * (integer weights * integer activations + integer bias)), clipped. Sums of
integers below 2^24 are exact in float32 whatever their order, so every machine gets the same bits (Balle et al. 2019
make the same argument for integer priors). `IntConv` chooses its weights' scale so that the bound holds by
construction; the exporter proves it again on the integers that it writes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import EXACT, GROUPS, HIDDEN_LIMIT, MEAN_GRID, PASSES, VALUE_LIMIT, Pass
from edgesem.entropy.tables import CENTRES, SCALES

WEIGHT_LIMIT = 127
_FINE, _COARSE = 1 / 64, 1 / 32  # one integer step of the inputs in the network's real units (8 quantizer steps = 1)
HIDDEN_STEP = 1 / 32
SCALE_STEP = 1 / 8  # one scale index in the network's real units


def floor_through(x: Tensor) -> Tensor:
    """Floor, with the gradient of x itself."""
    return x + (x.floor() - x).detach()


def _round(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def round_where_it_counts(x: Tensor) -> Tensor:
    """Round, with a gradient only near the places where rounding jumps: 2 within a quarter of one, 0 elsewhere.

    Straight-through gradients are right for fine quantization but pull at every value that rounds to zero anyway, and
    at a low rate nearly all do. The encoder serves all rates, so that pull ruins the high ones.
    """
    with torch.no_grad():
        slope = 2.0 * ((x - x.floor() - 0.5).abs() < 0.25)
    through = x * slope
    return through + (x.round() - through).detach()


def centred(step: Tensor, scale: Tensor) -> Tensor:
    """What whole steps stand for, in 1/8 steps: less than their number where the law of `scale` is narrow (CENTRES)."""
    with torch.no_grad():
        less = step.sign() * sum((scale < end).float() for end in CENTRES)
    return step * MEAN_GRID - less


class IntConv(nn.Module):
    """A convolution whose integer form is exact: |every partial sum| < 2^24 for inputs with |a| <= input_limit."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, input_limit: int, input_step: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dilation, self.padding = dilation, dilation * (kernel // 2)
        self.input_limit, self.input_step = input_limit, input_step

    def exponent(self) -> Tensor:
        """Per output row, the largest e such that weight * 2^e is within int8 and the sum bound holds: [outputs]."""
        flat = self.weight.detach().flatten(1).abs().double()
        room = EXACT - 2 - self.input_limit * 0.5 * flat.shape[1]  # rounding may add half a unit to each weight
        largest = flat.amax(1).clamp(min=1e-6)
        total = flat.sum(1).clamp(min=1e-6) + self.bias.detach().abs().double() / (self.input_limit * self.input_step)
        scale = torch.minimum(WEIGHT_LIMIT / largest, room / (self.input_limit * total))
        return torch.floor(torch.log2(scale)).float()

    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """Integer weights, integer bias and the per-row exponent, as float32 tensors that carry gradients."""
        exponent = self.exponent()
        grow = torch.exp2(exponent)
        weight = _round(self.weight * grow[:, None, None, None])
        return weight, _round(self.bias * grow / self.input_step), exponent

    def forward(self, a: Tensor) -> Tensor:
        """Real-valued result of integer inputs `a`, exact: [B, outputs, H, W]."""
        weight, bias, exponent = self.integers()
        total = F.conv2d(a, weight, bias, padding=self.padding, dilation=self.dilation)
        return total * (torch.exp2(-exponent) * self.input_step)[:, None, None]


class PassNet(nn.Module):
    """Mean and scale index of one pass's channels from the values decoded before it.

        values [B, C, h, w] + quality planes -> conv -> relu -> 1x1 -> relu -> 1x1 (+ direct conv) -> mean, scale

    C = the channels of this group and of those before it. Inputs and outputs are integers carried in float32.
    """

    def __init__(self, sweep: Pass, first_of_group: bool, dilation: int, hidden: int) -> None:
        super().__init__()
        self.fine = sweep.group == 0
        self.first_of_group = first_of_group
        self.channels = sweep.stop - (sweep.stop - sweep.start if first_of_group else 0)
        self.outputs = sweep.stop - sweep.start
        limit, step = (VALUE_LIMIT, _FINE) if self.fine else (HIDDEN_LIMIT, _COARSE)
        kernel = 1 if self.channels == 0 else 5 if self.fine else 3
        inputs = self.channels + 2
        self.first = IntConv(inputs, hidden, kernel, dilation, limit, step)
        self.second = IntConv(hidden, hidden, 1, 1, HIDDEN_LIMIT, HIDDEN_STEP)
        self.third = IntConv(hidden, 2 * self.outputs, 1, 1, HIDDEN_LIMIT, HIDDEN_STEP)
        self.direct = IntConv(inputs, 2 * self.outputs, kernel if self.fine else 1, dilation, limit, step)
        nn.init.uniform_(self.third.weight, -1e-2, 1e-2)
        nn.init.zeros_(self.direct.weight)

    def forward(self, values: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """values: float32 [B,>=C,h,w], integers in 1/8 steps, zero where unknown; level: float32 [B,1,h,w], 0..255.

        Returns mean (float32 [B,n,h,w], integers in 1/8 steps) and scale (integers 0..63).
        """
        seen = values[:, : self.channels]
        if not self.fine:
            seen = floor_through(seen / 2)
        limit = VALUE_LIMIT if self.fine else HIDDEN_LIMIT
        a = torch.cat([level, LEVELS - level, seen.clamp(-limit, limit)], 1)
        hidden = floor_through(self.first(a) / HIDDEN_STEP).clamp(0, HIDDEN_LIMIT)
        hidden = floor_through(self.second(hidden) / HIDDEN_STEP).clamp(0, HIDDEN_LIMIT)
        drawn, direct = self.third(hidden), self.direct(a)
        n = self.outputs
        mean = floor_through(drawn[:, :n] * MEAN_GRID) + floor_through(direct[:, :n] * MEAN_GRID)
        scale = floor_through(drawn[:, n:] / SCALE_STEP) + floor_through(direct[:, n:] / SCALE_STEP)
        return mean.clamp(-VALUE_LIMIT, VALUE_LIMIT), scale.clamp(0, SCALES - 1)


class ContextModel(nn.Module):
    """One `PassNet` a pass of the schedule (edgesem.entropy.schedule.PASSES), here computed at every position.

    The exported graphs (export.graphs.context) compute only the positions of their pass: 0.42 kMAC/pixel, not 0.98.
    """

    def __init__(self, hidden_first: int = 48, hidden: int = 56) -> None:
        super().__init__()
        dilations = {0: 1, 1: 2, 2: 2}
        nets, previous = [], -1
        for index, sweep in enumerate(PASSES):
            nets.append(
                PassNet(
                    sweep, sweep.group != previous, dilations.get(index, 1), hidden if sweep.group else hidden_first
                )
            )
            previous = sweep.group
        self.nets = nn.ModuleList(nets)

    def start_from(self, std: Tensor, log_gain: Tensor, scale_index_of: Tensor) -> None:
        """Begin at what the KLT already tells: means by the four nearest neighbours, scales by each channel's spread.

        std [96] of the latent, log_gain [knots, 96], scale_index_of [2]: offset and factor of index = o + f *
        ln(sigma).
        """
        offset, factor = scale_index_of.tolist()
        with torch.no_grad():
            for index, (sweep, net) in enumerate(zip(PASSES, self.nets, strict=True)):
                assert isinstance(net, PassNet)
                n = net.outputs
                spread = 1.0 if index == 0 else 0.5
                sigma = (std[sweep.start : sweep.stop] * spread).log()
                low = (offset + factor * (sigma + log_gain[0, sweep.start : sweep.stop])) * SCALE_STEP
                high = (offset + factor * (sigma + log_gain[-1, sweep.start : sweep.stop])) * SCALE_STEP
                middle = net.direct.weight.shape[-1] // 2
                # the planes are level and 255 - level: index runs from `low` at level 0 to `high` at level 255
                full = LEVELS * net.direct.input_step
                net.direct.weight[n:, 0, middle, middle] = high / full
                net.direct.weight[n:, 1, middle, middle] = low / full
                if sweep.group == 0 and index > 0:
                    step = [(1, 1), (1, 0), (1, 1), (1, 0)][index - 1]
                    for c in range(n):
                        for di, dj in _ring(step):
                            net.direct.weight[c, 2 + c, middle + di, middle + dj] = 0.22 * 8

    def forward(self, scaled: Tensor, level: Tensor, layers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Walk the schedule over a batch of latents in quantizer steps.

        scaled: float32 [B,96,h,w]; level: float32 [B,1,1,1], integers 0..255; layers: int64 [B,1,1,1], how many groups
        arrive (the others are replaced by their means, as a receiver does).
        Returns decoded values (steps, on the 1/8 grid), mean (steps) and scale index, each [B,96,h,w].
        """
        batch, _, height, width = scaled.shape
        plane = level.expand(batch, 1, height, width)
        before = scaled[:, :0]  # values of the groups before this one
        means, scales = [], []
        for group, size in enumerate(GROUPS):
            value = mean = scale = scaled.new_zeros(batch, size, height, width)
            for sweep, net in zip(PASSES, self.nets, strict=True):
                if sweep.group != group:
                    continue
                mask = torch.from_numpy(sweep.mask(height, width)).to(scaled)
                expected, spread = net(torch.cat([before, value], 1), plane)
                target = scaled[:, sweep.start : sweep.stop] * MEAN_GRID
                decoded = centred(round_where_it_counts((target - expected) / MEAN_GRID), spread) + expected
                decoded = torch.where(layers > group, decoded, expected)
                value = value + mask * decoded.clamp(-VALUE_LIMIT, VALUE_LIMIT)
                mean, scale = mean + mask * expected, scale + mask * spread
            before = torch.cat([before, value], 1)
            means.append(mean)
            scales.append(scale)
        return before / MEAN_GRID, torch.cat(means, 1) / MEAN_GRID, torch.cat(scales, 1)


def _ring(step: tuple[int, int]) -> list[tuple[int, int]]:
    i, j = step
    return [(i, j), (-i, -j), (i, -j), (-i, j)] if j else [(1, 0), (-1, 0), (0, 1), (0, -1)]


def group_of_channel() -> Tensor:
    """int64 [96]: the group of each channel."""
    return torch.repeat_interleave(torch.arange(len(GROUPS)), torch.tensor(GROUPS))
