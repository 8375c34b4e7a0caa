"""Own models: any encoder and decoder, as torch modules or ONNX files, become a model that the pipeline takes.

    encoder: RGB 0..1, float32 [1,3,H,W] -> its latent [1,C,H/s,W/s], s a power of two up to 16
    decoder: that latent (and quality [1,1,1,1] in 0..1, if its forward names it) -> RGB 0..1, float32 [1,3,H,W]

edgesem adds what it needs around them: the latent is folded to stride 16 and turned to its 96 strongest principal axes
over the user's pictures, which gives the layers of a packet their order of importance; quantizer steps span about 0.03
to 1 bit a pixel; the context model is trained on the latents, the tables are fitted by the pipeline.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import compose, version_converter
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.bundle import digest_of
from edgesem.context import CHANNELS, GROUPS, MEAN_GRID, STRIDE, VALUE_LIMIT
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture
from edgesem.latent import LEVELS
from edgesem.runner import OrtRunner
from edgesem.tables import SMALLEST_WIDTH, WIDTH_RATIO
from export import graph
from export.context_net import ContextModel
from export.losses import rate
from export.model import Model
from export.targets import MAX_IR_VERSION, OPSET

MINUTES = 5.0
_RATES = (0.03, 1.0)  # bits a pixel that the quantizer steps aim at, from coarsest to finest
_ROOM = 1.5  # for pictures with larger values than those seen; beyond the codec's limit they would be cut off
_CROP = 256
_CROPS = 96
_BATCH = 8

Frame = npt.NDArray[np.uint8]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class OwnModel:
    """What a user brings: torch modules or paths of ONNX files, and how long to train the context model."""

    encoder: nn.Module | Path
    decoder: nn.Module | Path
    minutes: float = MINUTES


def model_of_file(path: Path, data: Path, progress: Progress) -> Model:
    """The model that a .py file (with `encoder`, `decoder`, perhaps `minutes`) or a .toml file describes, fitted.

    The .py file is run. In a .toml file, `encoder` and `decoder` name ONNX files beside it. Raises InputError when
    something is missing or has another interface.
    """
    names = ("encoder", "decoder", "minutes")
    try:
        if path.suffix == ".py":
            found = {key: value for key, value in _run(path).items() if key in names}
        else:
            found = _toml(path)
            found |= {key: path.parent / str(found[key]) for key in names[:2] if key in found}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    missing = [key for key in names[:2] if key not in found]
    strange = [key for key in found if key not in names]
    if missing or strange:
        raise InputError(f"{path}: there must be encoder and decoder, perhaps minutes; wrong: {missing + strange}")
    return fit_model(OwnModel(**found), data, progress)


def fit_model(own: OwnModel, data: Path, progress: Progress, seed: int = 0) -> Model:
    """A model with the codec's interface around a user's networks, fitted to the pictures in folder `data`."""
    torch.manual_seed(seed)
    encoder, decoder = (_module(part) for part in (own.encoder, own.decoder))
    frames = _crops(find_pictures(data), seed)
    fold = _fold_of(encoder)
    with torch.no_grad():
        latents = []
        for index, frame in enumerate(frames):
            progress("looking at pictures through the encoder", index / len(frames))
            latents.append(F.pixel_unshuffle(encoder(_planes(frame)).float(), fold))
    stacked = torch.cat(latents)
    mean, basis, std = principal_axes(stacked)
    coarsest, finest = (step_of_rate(std.numpy(), bpp) for bpp in _RATES)
    peak = float((torch.einsum("cd,ndhw->nchw", basis, stacked) - (basis @ mean)[:, None, None]).abs().max())
    finest = max(finest, peak * MEAN_GRID / VALUE_LIMIT * _ROOM)
    coarsest = max(coarsest, 2 * finest)
    ramp = torch.linspace(0, 1, LEVELS + 1)[:, None].expand(-1, CHANNELS)
    log_gain = -(math.log(coarsest) * (1 - ramp) + math.log(finest) * ramp)
    wrapped_encoder = ForeignEncoder(encoder, fold, mean, basis)
    wrapped_decoder = ForeignDecoder(decoder, fold, mean, basis)
    with torch.no_grad():
        turned = torch.cat([wrapped_encoder.turn(latent) for latent in latents])
    context = fit_context(turned, log_gain.exp(), std, own.minutes, progress)
    parts = {"encoder": wrapped_encoder.eval(), "decoder": wrapped_decoder.eval(), "context": context.eval()}
    digests = [digest_of(part) if isinstance(part, Path) else _digest(part) for part in (own.encoder, own.decoder)]
    record = {
        "commands": ["edgesem export MODEL --data DIR --out BUNDLE"],
        "own_model": {"encoder_sha256": digests[0], "decoder_sha256": digests[1]},
        "channels": int(stacked.shape[1] // fold**2),
        "stride": STRIDE // fold,
        "variance_kept": round(float(std.square().sum() / stacked.var((0, 2, 3)).sum()), 6),
        "context_minutes": own.minutes,
    }
    identity = "".join(digests) + hashlib.sha256(stacked.numpy().tobytes()).hexdigest()
    writers = {name: write_joined for name, part in (("encoder", encoder), ("decoder", decoder)) if _is_onnx(part)}
    return Model(identity, parts, log_gain.exp().numpy(), (-log_gain).exp().numpy(), record, writers)


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
    return joined


def _at_our_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version > OPSET:
        raise InputError(f"{path} has opset {version}: export it with opset {OPSET} or lower")
    try:
        return model if version == OPSET else version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors have no common base
        raise InputError(f"{path} cannot be brought to opset {OPSET}: {error}") from error


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


def fit_context(latents: Tensor, gain: Tensor, std: Tensor, minutes: float, progress: Progress) -> ContextModel:
    """A context model trained for `minutes` on latents [N,96,h,w], at qualities and numbers of layers of all kinds."""
    context = ContextModel()
    offset = -math.log(SMALLEST_WIDTH * math.pi / math.sqrt(3)) / math.log(WIDTH_RATIO)
    ends = gain[[0, LEVELS]].log()
    context.start_from(std, ends, torch.tensor([offset, 1 / math.log(WIDTH_RATIO)]))
    optimizer = torch.optim.Adam(context.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    start = clock = time.monotonic()
    while clock - start < minutes * 60:
        done = (clock - start) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = 2e-5 + 1e-3 * 0.5 * (1 + math.cos(math.pi * done))
        chosen = torch.randint(0, len(latents), (_BATCH,), generator=generator)
        level = torch.randint(0, LEVELS + 1, (_BATCH, 1, 1, 1), generator=generator)
        layers = torch.randint(1, 2 * len(GROUPS), level.shape, generator=generator).clamp(max=len(GROUPS))
        scaled = latents[chosen] * gain[level.flatten()][:, :, None, None]
        _, mean, scale = context(scaled, level.float(), layers)
        bits = rate(scaled - mean, scale).sum((1, 2, 3))
        loss = (bits / bits.detach().clamp(min=1.0).sqrt()).mean()
        optimizer.zero_grad()
        if torch.isfinite(loss):
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(context.parameters(), 1.0)
            optimizer.step()
        progress("training the context model", done)
        clock = time.monotonic()
    return context


def _module(part: Any) -> nn.Module:
    if isinstance(part, Path):
        return OnnxPart(part)
    if not isinstance(part, nn.Module):
        raise InputError(f"encoder and decoder must be torch modules or ONNX files, got {type(part).__name__}")
    return part.eval().float().requires_grad_(False)


def _is_onnx(part: nn.Module) -> bool:
    return isinstance(part, OnnxPart)


def _fold_of(encoder: nn.Module) -> int:
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


def _takes_quality(decoder: nn.Module) -> bool:
    if isinstance(decoder, OnnxPart):
        return len(decoder.inputs) == 2
    return "quality" in inspect.signature(decoder.forward).parameters


def _crops(paths: Sequence[Path], seed: int) -> list[Frame]:
    """Square pieces of the pictures, as many as are needed, at random places; small pictures are enlarged."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(_CROPS):
        frame = read_picture(paths[index * max(1, len(paths) // _CROPS) % len(paths)])
        short = [max(0, _CROP - side) for side in frame.shape[:2]]
        frame = np.pad(
            frame, ((0, short[0]), (0, short[1]), (0, 0)), "reflect" if min(frame.shape[:2]) > 128 else "edge"
        )
        top, left = (int(random.integers(0, side - _CROP + 1)) for side in frame.shape[:2])
        found.append(np.ascontiguousarray(frame[top : top + _CROP, left : left + _CROP]))
    return found


def _planes(frame: Frame) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255


def _digest(module: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        state.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def _run(path: Path) -> dict[str, Any]:
    """The names that a Python file defines; it may import what lies beside it."""
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return runpy.run_path(str(path))
    finally:
        sys.path.pop(0)


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from error
