"""Custom models: any encoder and decoder, as torch modules or ONNX files, made into a model that the pipeline takes.

    encoder: RGB 0..1, float32 [1,3,H,W] -> its latent [1,C,H/s,W/s], s a power of two up to 16
    decoder: that latent (and quality [1,1,1,1] in 0..1, if its forward names it) -> RGB 0..1, float32 [1,3,H,W]

edgesem adds what it needs around them: the latent is folded to stride 16 and turned to its 96 strongest principal axes
over the user's pictures, which gives the layers of a packet their order of importance; quantizer steps span about 0.03
to 1 bit a pixel; the context model is trained on the latents, the tables are fitted by the pipeline.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesem.bundle.manifest import digest_of
from edgesem.codec.latent import LEVELS
from edgesem.config import read_toml
from edgesem.entropy.schedule import CHANNELS, GROUPS, MEAN_GRID, STRIDE, VALUE_LIMIT
from edgesem.entropy.tables import SMALLEST_WIDTH, WIDTH_RATIO
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture, write_whole
from edgesem.quality.metrics import Frame
from export.bundle.model import Model
from export.custom.adapter import (
    CustomDecoder,
    CustomEncoder,
    FromLatent,
    OnnxPart,
    ToLatent,
    as_module,
    fold_of,
    principal_axes,
    step_of_rate,
    write_joined,
)
from export.data.pack import picture_folder
from export.networks.context import ContextModel
from export.training.losses import rate

MINUTES = 5.0
_RATES = (0.03, 1.0)  # bits a pixel that the quantizer steps aim at, from coarsest to finest
_ROOM = 1.5  # for pictures with larger values than those seen; beyond the codec's limit they would be cut off
_CROP = 256
_CROPS = 96
_BATCH = 8

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CustomModel:
    """What a user brings: torch modules or paths of ONNX files, and how long to train the context model."""

    encoder: nn.Module | Path
    decoder: nn.Module | Path
    minutes: float = MINUTES


def model_of_file(path: Path, data: Path, progress: Progress, keep: Path | None = None) -> Model:
    """The model that a .py file (with `encoder`, `decoder`, perhaps `minutes`) or a .toml file describes, fitted.

    The .py file is run. In a .toml file, `encoder` and `decoder` name ONNX files beside it. `keep` as of `fit_model`.
    Raises InputError when something is missing or has another interface.
    """
    names = ("encoder", "decoder", "minutes")
    if path.suffix == ".py":
        found = {key: value for key, value in _run(path).items() if key in names}
    else:
        found = read_toml(path)
        found |= {key: path.parent / str(found[key]) for key in names[:2] if key in found}
    missing = [key for key in names[:2] if key not in found]
    strange = [key for key in found if key not in names]
    if missing or strange:
        raise InputError(f"{path}: there must be encoder and decoder, perhaps minutes; wrong: {missing + strange}")
    return fit_model(CustomModel(**found), data, progress, keep=keep)


def fit_model(own: CustomModel, data: Path, progress: Progress, seed: int = 0, keep: Path | None = None) -> Model:
    """A model with the codec's interface around a user's networks, fitted to the pictures in folder `data`.

    The context model is kept in file `keep`, and taken from there if it was trained on the same.
    """
    torch.manual_seed(seed)
    encoder, decoder = (as_module(part) for part in (own.encoder, own.decoder))
    with picture_folder(data) as folder:
        frames = _crops(find_pictures(folder), seed)
    fold = fold_of(encoder)
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
    wrapped_encoder = CustomEncoder(encoder, ToLatent(fold, mean, basis))
    wrapped_decoder = CustomDecoder(decoder, FromLatent(fold, mean, basis))
    with torch.no_grad():
        turned = wrapped_encoder.to_latent.axes(stacked)
    digests = [digest_of(part) if isinstance(part, Path) else _digest(part) for part in (own.encoder, own.decoder)]
    identity = "".join(digests) + hashlib.sha256(stacked.numpy().tobytes()).hexdigest()
    context = _kept(keep, f"{identity} {own.minutes}")
    if context is None:
        context = fit_context(turned, log_gain.exp(), std, own.minutes, progress)
        _keep(keep, f"{identity} {own.minutes}", context)
    parts = {"encoder": wrapped_encoder.eval(), "decoder": wrapped_decoder.eval(), "context": context.eval()}
    record = {
        "own_model": {"encoder_sha256": digests[0], "decoder_sha256": digests[1]},
        "channels": int(stacked.shape[1] // fold**2),
        "stride": STRIDE // fold,
        "variance_kept": round(float(std.square().sum() / stacked.var((0, 2, 3)).sum()), 6),
        "context_minutes": own.minutes,
    }
    writers = {
        name: write_joined for name, part in (("encoder", encoder), ("decoder", decoder)) if isinstance(part, OnnxPart)
    }
    return Model(identity, parts, log_gain.exp().numpy(), (-log_gain).exp().numpy(), record, writers)


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


def _keep(path: Path | None, key: str, context: ContextModel) -> None:
    if path is not None:
        stored = io.BytesIO()
        torch.save({"key": key, "context": context.state_dict()}, stored)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, stored.getvalue())


def _kept(path: Path | None, key: str) -> ContextModel | None:
    """The context model in file `path` if it was kept under this key."""
    if path is None or not path.exists():
        return None
    try:
        stored = torch.load(path, weights_only=True)
        if stored["key"] != key:
            return None
        context = ContextModel()
        context.load_state_dict(stored["context"])
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError):  # half a file, or of another version
        return None
    return context


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
    """The names that a Python file defines; it may import what lies beside it. InputError for what goes wrong in it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return runpy.run_path(str(path))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(f"{path}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno})") from error
    finally:
        sys.path.pop(0)
