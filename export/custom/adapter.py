"""The networks around a user's own encoder and decoder: between its latent and the codec's, as modules and as graphs.

picture -> own encoder -> fold to stride 16 -> 96 principal axes -> the codec's latent
the codec's latent -> back from the axes -> unfold -> own decoder -> picture
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


class ForeignEncoder(nn.Module):
    """A user's encoder with the codec's latent: float32 [B,3,H,W] -> [B,96,H/16,W/16]."""

    def __init__(self, inner: nn.Module, fold: int, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.inner, self.fold = inner, fold
        self.axes = nn.Conv2d(basis.shape[1], CHANNELS, 1)
        with torch.no_grad():
            self.axes.weight.copy_(basis[:, :, None, None])
            self.axes.bias.copy_(-basis @ mean)  # type: ignore[union-attr]

    def turn(self, folded: Tensor) -> Tensor:
        return self.axes(folded)

    def forward(self, frame: Tensor) -> Tensor:
        return self.turn(F.pixel_unshuffle(self.inner(frame), self.fold))


class ForeignDecoder(nn.Module):
    """A user's decoder that takes the codec's latent and quality: -> float32 [B,3,H,W]."""

    def __init__(self, inner: nn.Module, fold: int, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.inner, self.fold = inner, fold
        self.takes_quality = _takes_quality(inner)
        self.axes = nn.Conv2d(CHANNELS, basis.shape[1], 1)
        with torch.no_grad():
            self.axes.weight.copy_(basis.T[:, :, None, None])
            self.axes.bias.copy_(mean)  # type: ignore[union-attr]

    def unfold(self, latent: Tensor) -> Tensor:
        return F.pixel_shuffle(self.axes(latent), self.fold)

    def forward(self, latent: Tensor, quality: Tensor) -> Tensor:
        own = self.unfold(latent)
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
        feed = {name: value.numpy() for name, value in zip(self.inputs, values, strict=True)}
        return torch.from_numpy(next(iter(self.runner.run(feed).values())))


def write_joined(part: nn.Module, folder: Path) -> None:
    """Write the graph of a part whose inside is an ONNX file: that file and the adapter, joined into one."""
    assert isinstance(part, (ForeignEncoder, ForeignDecoder))
    inner = part.inner
    assert isinstance(inner, OnnxPart)
    own = _at_our_opset(inner.model, inner.path)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter.onnx"
        first = inner.inputs[0]
        if isinstance(part, ForeignEncoder):
            channels = part.axes.in_channels // part.fold**2
            latent = torch.rand(1, channels, 4 * part.fold, 6 * part.fold)
            graph.write(_Turn(part), adapter, {"folded": latent}, ["latent"], {"folded": part.fold})
            ends = [(own.graph.output[0].name, "folded")]
            joined = _merge(own, onnx.load(adapter), ends, {first: "frame"}, {})
        else:
            latent = torch.rand(1, CHANNELS, 4, 6)
            graph.write(_Unfold(part), adapter, {"latent": latent}, ["unfolded"], {"latent": 1})
            renamed = {inner.inputs[1]: "quality"} if part.takes_quality else {}
            joined = _merge(
                onnx.load(adapter), own, [("unfolded", first)], renamed, {own.graph.output[0].name: "picture"}
            )
            if not part.takes_quality:
                shape = onnx.helper.make_tensor_value_info("quality", onnx.TensorProto.FLOAT, [1, 1, 1, 1])
                joined.graph.input.append(shape)
    name = "encoder.onnx" if isinstance(part, ForeignEncoder) else "decoder.onnx"
    onnx.checker.check_model(joined)
    (folder / name).write_bytes(joined.SerializeToString())


class _Turn(nn.Module):
    def __init__(self, part: ForeignEncoder) -> None:
        super().__init__()
        self.axes, self.fold = part.axes, part.fold

    def forward(self, folded: Tensor) -> Tensor:
        return self.axes(F.pixel_unshuffle(folded, self.fold))


class _Unfold(nn.Module):
    def __init__(self, part: ForeignDecoder) -> None:
        super().__init__()
        self.axes, self.fold = part.axes, part.fold

    def forward(self, latent: Tensor) -> Tensor:
        return F.pixel_shuffle(self.axes(latent), self.fold)


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
