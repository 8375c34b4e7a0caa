"""Adapters around a custom encoder and decoder, between their latent and the codec's, as modules and as ONNX graphs.

picture -> custom encoder -> fold to stride 16 -> 96 principal axes -> the codec's latent
the codec's latent -> back from the axes -> unfold -> custom decoder -> picture
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import compose, version_converter
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.bundle.runner import OrtRunner
from edgesem.entropy.schedule import CHANNELS, STRIDE
from edgesem.errors import InputError
from export.graphs import write as graph
from export.graphs.targets import MAX_IR_VERSION, OPSET


def as_module(part: Any) -> nn.Module:
    """A user's network, ready to be used: a torch module, or the path of an ONNX file. InputError for anything else."""
    if isinstance(part, Path):
        return OnnxPart(part)
    if not isinstance(part, nn.Module):
        raise InputError(f"encoder and decoder must be torch modules or ONNX files, got {type(part).__name__}")
    return part.eval().float().requires_grad_(False)


def fold_of(encoder: nn.Module) -> int:
    """How many positions of the user's latent stand in one of ours, on a side. Raises InputError when it cannot be."""
    side = 8 * STRIDE
    with torch.no_grad():
        latent = encoder(torch.rand(1, 3, side, side))
    if not isinstance(latent, Tensor) or latent.ndim != 4:
        raise InputError("the encoder must give one tensor [1, C, H/s, W/s]; wrap it if it gives more")
    stride = side // latent.shape[2]
    if latent.shape[2] != latent.shape[3] or side % latent.shape[2] or STRIDE % stride:
        raise InputError(f"the encoder gives {list(latent.shape)} for 128x128: its stride must be 1, 2, 4, 8 or 16")
    return STRIDE // stride


def principal_axes(folded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], the 96 strongest axes [96, D] (rows of zeros beyond D) and the deviation along each [96]."""
    flat = folded.permute(1, 0, 2, 3).flatten(1).double()
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    variance, axes = torch.linalg.eigh(centred @ centred.T / centred.shape[1])
    count = min(CHANNELS, len(variance))
    basis, std = torch.zeros(CHANNELS, len(variance)), torch.full((CHANNELS,), 1e-6)
    basis[:count] = axes[:, -count:].flip(1).T.float()
    std[:count] = variance[-count:].flip(0).clamp(min=1e-12).sqrt().float()
    return mean.float(), basis, std


def step_of_rate(std: npt.NDArray[np.float32], bpp: float) -> float:
    """The quantizer step at which Gaussian channels of these deviations cost about `bpp` bits a pixel."""
    low, high = 1e-6 * float(std.max()), 1e3 * float(std.max())
    for _ in range(80):
        middle = math.sqrt(low * high)
        bits = float((np.log2(1 + 12 * (std / middle) ** 2) / 2).sum()) / STRIDE**2
        low, high = (middle, high) if bits > bpp else (low, middle)
    return math.sqrt(low * high)


class ToLatent(nn.Module):
    """A user's latent [B,C,H/s,W/s], folded to stride 16 and along the axes: the codec's, float32 [B,96,H/16,W/16]."""

    def __init__(self, fold: int, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.fold, self.axes = fold, nn.Conv2d(basis.shape[1], CHANNELS, 1)
        with torch.no_grad():
            self.axes.weight.copy_(basis[:, :, None, None])
            self.axes.bias.copy_(-basis @ mean)  # type: ignore[union-attr]

    def forward(self, latent: Tensor) -> Tensor:
        """The codec's latent of the user's."""
        return self.axes(F.pixel_unshuffle(latent, self.fold))


class FromLatent(nn.Module):
    """The way back of `ToLatent`: the codec's latent [B,96,H/16,W/16] -> the user's [B,C,H/s,W/s]."""

    def __init__(self, fold: int, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.fold, self.axes = fold, nn.Conv2d(CHANNELS, basis.shape[1], 1)
        with torch.no_grad():
            self.axes.weight.copy_(basis.T[:, :, None, None])
            self.axes.bias.copy_(mean)  # type: ignore[union-attr]

    def forward(self, latent: Tensor) -> Tensor:
        """The user's latent of the codec's."""
        return F.pixel_shuffle(self.axes(latent), self.fold)


class CustomEncoder(nn.Module):
    """A user's encoder with the codec's latent: float32 [B,3,H,W] -> [B,96,H/16,W/16]."""

    def __init__(self, inner: nn.Module, to_latent: ToLatent) -> None:
        super().__init__()
        self.inner, self.to_latent = inner, to_latent

    def forward(self, frame: Tensor) -> Tensor:
        """The codec's latent of a frame, float32 [B,3,H,W], 0..1."""
        return self.to_latent(self.inner(frame))


class CustomDecoder(nn.Module):
    """A user's decoder that takes the codec's latent and quality: -> float32 [B,3,H,W]."""

    def __init__(self, inner: nn.Module, from_latent: FromLatent) -> None:
        super().__init__()
        self.inner, self.from_latent = inner, from_latent
        self.takes_quality = _takes_quality(inner)

    def forward(self, latent: Tensor, quality: Tensor) -> Tensor:
        """Picture float32 [B,3,H,W] of the codec's latent at quality [B,1,1,1] in 0..1."""
        own = self.from_latent(latent)
        if self.takes_quality:
            return self.inner(own, quality)
        return self.inner(own) + 0 * quality  # an input that nothing reads would vanish from the graph


class OnnxPart(nn.Module):
    """An ONNX file as a module, run by ONNX Runtime. Raises InputError unless its interface is that of an own model."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.model = onnx.load(path)
            self.runner = OrtRunner(path)
        except Exception as error:
            raise InputError(f"{path} cannot be used as an ONNX graph: {error}") from error
        self.path = path
        self.inputs = [value.name for value in self.model.graph.input]
        if len(self.inputs) not in (1, 2) or len(self.model.graph.output) != 1:
            raise InputError(f"{path} must have one input (a decoder may take quality as a second) and one output")

    def forward(self, *values: Tensor) -> Tensor:
        """Output of the graph for its inputs, in the order that the graph has them."""
        feed = {name: value.numpy() for name, value in zip(self.inputs, values, strict=True)}
        return torch.from_numpy(next(iter(self.runner.run(feed).values())))


def write_joined(part: nn.Module, folder: Path) -> None:
    """Write the graph of a custom part in an ONNX file: that file and the adapter, joined into one."""
    assert isinstance(part, (CustomEncoder, CustomDecoder))
    inner = part.inner
    assert isinstance(inner, OnnxPart)
    own = _at_our_opset(inner.model, inner.path)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter.onnx"
        first = inner.inputs[0]
        if isinstance(part, CustomEncoder):
            fold = part.to_latent.fold
            latent = torch.rand(1, part.to_latent.axes.in_channels // fold**2, 4 * fold, 6 * fold)
            graph.write(part.to_latent, adapter, {"own": latent}, ["latent"], {"own": fold})
            joined = _merge(own, onnx.load(adapter), [(own.graph.output[0].name, "own")], {first: "frame"}, {})
        else:
            latent = torch.rand(1, CHANNELS, 4, 6)
            graph.write(part.from_latent, adapter, {"latent": latent}, ["own"], {"latent": 1})
            renamed = {inner.inputs[1]: "quality"} if part.takes_quality else {}
            joined = _merge(onnx.load(adapter), own, [("own", first)], renamed, {own.graph.output[0].name: "picture"})
            if not part.takes_quality:
                shape = onnx.helper.make_tensor_value_info("quality", onnx.TensorProto.FLOAT, [1, 1, 1, 1])
                joined.graph.input.append(shape)
    name = "encoder.onnx" if isinstance(part, CustomEncoder) else "decoder.onnx"
    onnx.checker.check_model(joined)
    (folder / name).write_bytes(joined.SerializeToString())


def _merge(
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    ends: Sequence[tuple[str, str]],
    inputs: dict[str, str],
    outputs: dict[str, str],
) -> onnx.ModelProto:
    """Two graphs as one; `inputs` and `outputs` get the names that the codec feeds and reads."""
    first, second = (compose.add_prefix(model, f"{side}/") for model, side in ((first, "a"), (second, "b")))
    for model in (first, second):
        model.ir_version = min(first.ir_version, second.ir_version, MAX_IR_VERSION)
    joined = compose.merge_models(first, second, [(f"a/{a}", f"b/{b}") for a, b in ends])
    wanted = {**inputs, **outputs}
    for value in (*joined.graph.input, *joined.graph.output):
        old, short = value.name, value.name.partition("/")[2]
        new = wanted.get(short, short)
        value.name = new
        for node in joined.graph.node:
            for names in (node.input, node.output):
                for place, name in enumerate(names):
                    if name == old:
                        names[place] = new
    del joined.graph.value_info[:]
    versions = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in joined.opset_import}
    del joined.opset_import[:]  # it names ONNX's own operators once for each graph, which quantizers refuse
    joined.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    return joined


def _at_our_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version > OPSET:
        raise InputError(f"{path} has opset {version}: export it with opset {OPSET} or lower")
    try:
        return model if version == OPSET else version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors have no common base
        raise InputError(f"{path} cannot be brought to opset {OPSET}: {error}") from error


def _takes_quality(decoder: nn.Module) -> bool:
    if isinstance(decoder, OnnxPart):
        return len(decoder.inputs) == 2
    return "quality" in inspect.signature(decoder.forward).parameters
