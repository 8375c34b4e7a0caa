"""Context model of inter frames: that of keyframes, which also gets a latent that was sent before as its reference.

It starts as a copy of the trained model of keyframes, which itself stays as it is, so that keyframes lose nothing
and cost nothing. All arithmetic is that of `export.networks.context`: integers carried in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import GATE_STEPS, HIDDEN_LIMIT, MEAN_GRID, PASSES, VALUE_LIMIT, Pass
from edgesem.entropy.tables import SCALES
from export.networks.context import (
    HIDDEN_STEP,
    SCALE_STEP,
    ContextModel,
    IntConv,
    PassNet,
    centred,
    floor_through,
)

GATE_STEP = 1 / 16
_REACH = 4  # border of zeros that the widest convolution needs
_START_GATE = 60  # of GATE_STEPS: mostly the reference, with room to learn in both directions


Integers = dict[str, tuple[Tensor, Tensor, Tensor]]


class ReferencePass(nn.Module):
    """Mean and scale index of one pass, from what was decoded before it and from the reference.

        mean = spatial + gate * (reference - spatial), with a gate of 0..1 for each symbol

    Where nothing moves the gate is open, and the mean is the reference to the last bit, so that nothing drifts.
    `change` is what was decoded so far less the reference, zero where nothing is known yet.
    """

    def __init__(self, key: PassNet, sweep: Pass) -> None:
        super().__init__()
        self.fine, self.channels, self.outputs = key.fine, key.channels, key.outputs
        self.start, self.stop = sweep.start, sweep.stop
        self.changes = key.channels if key.fine else sweep.start
        hidden, n = key.first.weight.shape[0], key.outputs
        limit, step, kernel = key.first.input_limit, key.first.input_step, 3 if key.fine else 1
        inputs = 1 + n + (2 if self.fine else 1) * self.changes
        dilation = key.first.dilation
        self.first, self.second, self.direct = _copy(key.first), _copy(key.second), _copy(key.direct)
        self.third = IntConv(hidden, 3 * n, 1, 1, HIDDEN_LIMIT, HIDDEN_STEP)
        self.first_beside = IntConv(inputs, hidden, kernel, dilation, limit, step)
        self.direct_beside = IntConv(inputs, 3 * n, kernel, dilation, limit, step)
        with torch.no_grad():
            self.third.weight.zero_()
            self.third.weight[: 2 * n].copy_(key.third.weight)
            self.third.weight[2 * n :].uniform_(-1e-2, 1e-2)
            self.third.bias[: 2 * n].copy_(key.third.bias)
            self.first_beside.weight.uniform_(-1e-2, 1e-2)
            self.direct_beside.weight.zero_()
            self.direct_beside.bias[2 * n :] = _START_GATE * GATE_STEP

    def beside(self, reference: Tensor, change: Tensor, reference_level: Tensor) -> Tensor:
        """What the layers beside those of a keyframe see: integers within the limit of their inputs."""
        own, change = reference[:, self.start : self.stop], change[:, : self.changes]
        if self.fine:
            parts = [reference_level, own, change, change.abs()] if self.changes else [reference_level, own]
            return torch.cat(parts, 1)
        small = torch.cat([own, change.abs()], 1)
        small = (small / 2).floor().clamp(-HIDDEN_LIMIT, HIDDEN_LIMIT)
        return torch.cat([reference_level, small], 1)

    def seen(self, values: Tensor, level: Tensor) -> Tensor:
        """What the layers of a keyframe see: integers within the limit of their inputs."""
        values = values[:, : self.channels]
        if not self.fine:
            values = (values / 2).floor()
        limit = VALUE_LIMIT if self.fine else HIDDEN_LIMIT
        return torch.cat([level, LEVELS - level, values.clamp(-limit, limit)], 1)

    def integers(self) -> Integers:
        """Integer weights, bias and exponent of each layer."""
        return {name: conv.integers() for name, conv in self.named_children() if isinstance(conv, IntConv)}

    def forward(
        self, values: Tensor, level: Tensor, reference: Tensor, change: Tensor, reference_level: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All float32 [B,>=stop,h,w], integers in 1/8 steps, or [B,1,h,w], 0..255. As `PassNet.forward` returns."""
        a, b = self.seen(values, level), self.beside(reference, change, reference_level)
        return self.mix(a, a, b, reference[:, self.start : self.stop], self.integers())

    def mix(self, a: Tensor, middle: Tensor, b: Tensor, own: Tensor, integers: Integers) -> tuple[Tensor, Tensor]:
        """Mean and scale index; `middle` is what a direct layer of one tap sees of `a`."""

        def run(name: str, x: Tensor) -> Tensor:
            conv: IntConv = getattr(self, name)
            weight, bias, exponent = integers[name]
            if x.shape[1] != weight.shape[1]:  # neighbours are channels already
                total = F.conv2d(x, weight.flatten(1)[:, :, None, None], bias)
            else:
                total = F.conv2d(x, weight, bias, padding=conv.padding, dilation=conv.dilation)
            return total * (torch.exp2(-exponent) * conv.input_step)[:, None, None]

        hidden = floor_through(run("first", a) / HIDDEN_STEP) + floor_through(run("first_beside", b) / HIDDEN_STEP)
        hidden = floor_through(run("second", hidden.clamp(0, HIDDEN_LIMIT)) / HIDDEN_STEP).clamp(0, HIDDEN_LIMIT)
        n = self.outputs
        drawn, direct, beside = run("third", hidden), run("direct", middle), run("direct_beside", b)
        spatial, scale = (
            floor_through(drawn[:, part] / unit)
            + floor_through(direct[:, part] / unit)
            + floor_through(beside[:, part] / unit)
            for part, unit in ((slice(0, n), 1 / MEAN_GRID), (slice(n, 2 * n), SCALE_STEP))
        )
        gate = floor_through(drawn[:, 2 * n :] / GATE_STEP) + floor_through(beside[:, 2 * n :] / GATE_STEP)
        spatial = spatial.clamp(-VALUE_LIMIT, VALUE_LIMIT)
        gate = _Within.apply(gate, 0.0, float(GATE_STEPS))  # type: ignore[no-untyped-call]
        mean = spatial + floor_through(gate * (own - spatial) / GATE_STEPS)
        return mean, scale.clamp(0, SCALES - 1)


class Coded(NamedTuple):
    """Symbols of a batch of inter frames, in the order of the schedule: residual in quantizer steps, before rounding,
    scale index, and picture of the batch, [n] each. `decoded`, [B,96,h,w], is in quantizer steps."""

    residual: Tensor
    scale: Tensor
    picture: Tensor
    decoded: Tensor


class ReferenceModel(nn.Module):
    """One `ReferencePass` a pass of the schedule."""

    def __init__(self, key: ContextModel) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            ReferencePass(net, sweep)  # type: ignore[arg-type]
            for net, sweep in zip(key.nets, PASSES, strict=True)
        )

    def integers(self) -> list[Integers]:
        """Integer weights of each pass, for `forward`: they stay the same for all pictures of a step."""
        return [net.integers() for net in self.nets]  # type: ignore[operator]

    def forward(
        self,
        scaled: Tensor,
        level: Tensor,
        reference: Tensor,
        reference_level: Tensor,
        copied: Tensor,
        integers: list[Integers],
    ) -> Coded:
        """Walk the schedule over a batch of pictures, each with a reference, at the positions that are not copied.

        scaled, reference: float32 [B,96,h,w], in quantizer steps; level: [B,1,1,1], 0..255; reference_level: the same
        for each position, [B,1,h,w]; copied: bool [B,1,h,w].

        Each pass is computed at its own positions only, and what it sees bears no gradient: what was decoded is right
        to half a step whatever was predicted, so nothing is to be learned through it.
        """
        batch, channels, height, width = scaled.shape
        grown = (height + 2 * _REACH, width + 2 * _REACH)

        def flat(x: Tensor) -> Tensor:  # [B,C,h,w] with a border of zeros as [C, B * grown]
            return F.pad(x.detach(), (_REACH,) * 4).transpose(0, 1).reshape(x.shape[1], -1)

        target = flat(scaled * MEAN_GRID)
        known = flat((reference * MEAN_GRID).round().clamp(-VALUE_LIMIT, VALUE_LIMIT))
        inside = scaled.new_ones(batch, 1, height, width)
        plane, old_plane, rest = flat(inside * level), flat(reference_level), flat(inside * (LEVELS - level))
        values, change = torch.zeros_like(target), torch.zeros_like(target)
        left = flat(copied.logical_not())[0]
        residuals, scales, pictures = [], [], []
        for sweep, net, numbers in zip(PASSES, self.nets, integers, strict=True):
            assert isinstance(net, ReferencePass)
            here = _places(sweep, batch, height, width)
            same, here = here[~left[here]], here[left[here]]
            if len(here):
                seen, limit = values[: net.channels], VALUE_LIMIT if net.fine else HIDDEN_LIMIT
                seen = seen if net.fine else (seen / 2).floor()
                a = torch.cat([plane, rest, seen.clamp(-limit, limit)])
                b = net.beside(known[None], change[None], old_plane[None])[0]
                middle = a[:, here][None, :, None]
                first = _around(a, net.first, here, grown[1])
                direct = first if net.direct.weight.shape[-1] > 1 else middle
                beside = _around(b, net.first_beside, here, grown[1])
                own = known[sweep.start : sweep.stop, here][None, :, None]
                mean, scale = net.mix(first, direct, beside, own, numbers)
                wanted = target[sweep.start : sweep.stop, here][None, :, None]
                with torch.no_grad():
                    decoded = centred(((wanted - mean) / MEAN_GRID).round(), scale) + mean
                    decoded = decoded.clamp(-VALUE_LIMIT, VALUE_LIMIT)
                    values[sweep.start : sweep.stop, here] = decoded[0, :, 0]
                    difference = (decoded - own).clamp(-VALUE_LIMIT, VALUE_LIMIT)
                    change[sweep.start : sweep.stop, here] = difference[0, :, 0]
                residuals.append(((wanted - mean) / MEAN_GRID).reshape(-1))
                scales.append(scale.reshape(-1))
                pictures.append((here // (grown[0] * grown[1])).repeat(sweep.stop - sweep.start))
            values[sweep.start : sweep.stop, same] = known[sweep.start : sweep.stop, same]
        decoded = values.view(channels, batch, *grown)[:, :, _REACH:-_REACH, _REACH:-_REACH].transpose(0, 1)
        none = [scaled.new_zeros(0)]  # where all is copied
        picture = torch.cat(pictures) if pictures else scaled.new_zeros(0, dtype=torch.long)
        return Coded(torch.cat(residuals or none), torch.cat(scales or none), picture, decoded / MEAN_GRID)


@lru_cache(maxsize=64)
def _places(sweep: Pass, batch: int, height: int, width: int) -> Tensor:
    """int64 [n]: the positions of a pass in a batch of planes with a border."""
    mask = F.pad(torch.from_numpy(sweep.mask(height, width)), (_REACH,) * 4)
    return mask.expand(batch, *mask.shape).reshape(-1).nonzero()[:, 0]


def _around(x: Tensor, conv: IntConv, here: Tensor, stride: int) -> Tensor:
    """Columns [1, channels * taps, 1, n] of what a convolution sees around each place of `x` [channels, places]."""
    half, step = conv.weight.shape[-1] // 2, conv.dilation
    taps = [di * step * stride + dj * step for di in range(-half, half + 1) for dj in range(-half, half + 1)]
    index = (torch.tensor(taps)[:, None] + here).reshape(-1)
    return x.index_select(1, index).view(1, -1, 1, len(here))


class _Within(torch.autograd.Function):
    """Clamp whose gradient leads back from beyond a limit, where that of a plain clamp is zero for good."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), (grad,) = ctx.saved_tensors, grads
        outwards = ((x > ctx.high) & (grad < 0)) | ((x < ctx.low) & (grad > 0))
        return grad.masked_fill(outwards, 0.0), None, None


def reference_of(key: ContextModel, weights: dict[str, Tensor]) -> ReferenceModel:
    """The model that these weights, of a run, belong to."""
    net = ReferenceModel(key)
    net.load_state_dict(weights)
    return net.eval()


def _copy(conv: IntConv) -> IntConv:
    outputs, inputs, kernel, _ = conv.weight.shape
    twin = IntConv(inputs, outputs, kernel, conv.dilation, conv.input_limit, conv.input_step)
    twin.load_state_dict(conv.state_dict())
    return twin
