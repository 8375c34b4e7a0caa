"""Training of the semantic head on a codec's latents, without captions: targets are a classifier's answers, as a text
encoder places their class names.

    photos -> squares -> teacher's answers (kept) -> targets [128]
                      -> encoder -> latents -> Head -> head.onnx, labels.npz
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.manifest import digest_of
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS
from edgesem.errors import ExportError, InputError
from edgesem.files import write_whole
from edgesem.packet.keys import Identity
from edgesem.semantics.embedding import DIMENSIONS, HEAD, LABELS, Labels, prompt
from export.bundle.folder import change, check_signed
from export.graphs.cost import cost
from export.semantics.head import Head, export_head
from export.semantics.photos import SIDE, Answers, Photo, find_photos, squares
from export.semantics.teacher import Teacher
from export.semantics.words import WORDS

REPORT = "head.json"
_FORM = 1  # raise it when a head is made in another way
_BATCH = 96
_LEARNING_RATE, _LAST_SHARE, _WARM_UP = 3e-3, 0.01, 0.05
_DECAY = 0.03
_AVERAGE = 0.995
_RELATIONS = 4.0  # weight of the likeness between pictures
_COARSEST = 60  # quality level whose rounding the head must bear
_MOST_PICTURES = 512
_TOLERANCE = 2e-3
_MARK_TOLERANCE = 0.02

Array = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class AlignSettings:
    """What the head is made from."""

    data: Sequence[Path]
    minutes: float = 5.0
    squares: int = 16
    seed: int = 0
    steps: int | None = None
    """How many steps to train, whatever the clock says."""


def align(
    bundle: Bundle,
    teacher: Teacher,
    teacher_files: Sequence[Path],
    settings: AlignSettings,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the head of `bundle` and write head.onnx, labels.npz and head.json to `out`; returns the last.

    teacher_files: what the teacher was opened from. Its answers are kept in `out`, so the next codec's head takes only
    its own training.
    Raises ExportError if the graph differs from the network.
    """
    photos = find_photos(settings.data)
    if len(photos) < 10:
        raise InputError(f"{len(photos)} pictures teach nothing: name a folder of some hundred photographs")
    out.mkdir(parents=True, exist_ok=True)
    answers = Answers(out / "answers.npz", teacher, settings.squares)
    said = answers.of(photos, lambda share: progress("asking the teacher", share))
    mean, projection = teacher.projection_to(DIMENSIONS)
    held = np.array([photo.held_out for photo in photos])
    meant = teacher.text_vectors(said.reshape(-1, said.shape[-1]))
    meant = ((meant - meant.reshape(*said.shape[:2], -1)[~held].mean((0, 1))) @ projection).astype(np.float32)
    targets = _unit(meant).reshape(*said.shape[:2], DIMENSIONS)
    codec = Codec(bundle, precision="fp32", runtime="cpu")
    latents = _latents(codec, photos, settings.squares, progress)
    known = torch.from_numpy(latents[~held].reshape(-1, *latents.shape[2:]))
    wanted = torch.from_numpy(targets[~held].reshape(-1, DIMENSIONS))
    head = train_head(known, wanted, bundle.shrinkage / bundle.gain, settings, progress)
    (out / REPORT).unlink(missing_ok=True)  # of an earlier head: `made_before` must not take this one for it
    export_head(head, out)
    fit = {
        "training_cosine": _cosine(out, latents[~held][:64], targets[~held][:64]),
        "held_out_cosine": _cosine(out, latents[held], targets[held]) if held.any() else None,
    }
    _check(head, out, latents[0, :4])
    labels = Labels(
        names=(*teacher.names, *(word for word in WORDS if word not in teacher.names)),
        vectors=np.zeros((0, DIMENSIONS), np.float32),
        mean=mean,
        projection=projection,
        encoder=teacher.text.name,
        pictures=_embeddings(out, latents[:_MOST_PICTURES, 0]),
    )
    vectors = labels.project(teacher.text([prompt(name) for name in labels.names]))
    _write_labels(Labels(**{**vars(labels), "vectors": vectors}), out)
    report = {
        "teacher": teacher.about,
        "pictures": int((~held).sum()),
        "held_out": int(held.sum()),
        "squares": settings.squares,
        "minutes": settings.minutes,
        "steps": head.steps,
        **fit,
        "made_of": _made_of(teacher_files, photos, settings),
        "encoder_mark": encoder_mark(codec),
    }
    write_whole(out / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return report


def train_head(latents: Tensor, targets: Tensor, roughness: Array, settings: AlignSettings, progress: Progress) -> Head:
    """The head that learned for `settings.minutes`: latents float16 [N, 96, h, w], targets float32 [N, 128].

    roughness: float32 [256, 96], how far decoded channels are from the encoder's, by quality.
    """
    torch.manual_seed(settings.seed)
    random = np.random.default_rng(settings.seed)
    spread = latents[:: max(1, len(latents) // 512)].float().std((0, 2, 3)).clamp(min=1e-4)
    head = Head(1 / spread).train()
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # half again as fast on a CPU
    groups = [{"params": [p for p in head.parameters() if p.ndim > 1], "weight_decay": _DECAY}]
    groups.append({"params": [p for p in head.parameters() if p.ndim <= 1], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=_LEARNING_RATE)
    spread_of = torch.from_numpy(roughness)
    average = copy.deepcopy(head)
    step = 0
    began_s = time.monotonic()
    share = 0.0
    while share < 1:
        rate = min(1.0, share / _WARM_UP) if share < _WARM_UP else 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * max(_LAST_SHARE, rate)
        places = torch.from_numpy(random.choice(len(latents), min(_BATCH, len(latents)), replace=False))
        latent = latents[places].float().contiguous(memory_format=torch.channels_last)
        target = targets[places]
        level = torch.from_numpy(random.integers(_COARSEST, LEVELS + 1, len(places)))
        rounding = (torch.rand_like(latent) - 0.5) * spread_of[level][:, :, None, None]
        latent = latent + rounding * (torch.rand(len(places), 1, 1, 1) < 0.5)
        latent, target = _mixed(latent, target, random)
        embedding = head(latent)
        relations = (embedding @ embedding.T - target @ target.T).square().mean()
        loss = (1 - (embedding * target).sum(1)).mean() + _RELATIONS * relations
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        _follow(average, head, min(_AVERAGE, step / (step + 10)))
        minutes = (time.monotonic() - began_s) / 60
        share = minutes / settings.minutes if settings.steps is None else step / settings.steps
        progress("training the head", min(1.0, share))
    average.steps = step
    average.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return average.eval()


@torch.no_grad()
def _follow(average: Head, head: Head, decay: float) -> None:
    """Bring the average nearer to the head; the counters in it are taken over."""
    for mine, new in zip(average.state_dict().values(), head.state_dict().values(), strict=True):
        if mine.dtype.is_floating_point:
            mine.lerp_(new, 1 - decay)
        else:
            mine.copy_(new)


def _mixed(latent: Tensor, target: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """For half of the batch a band of another picture in each: what it means is in between."""
    other = torch.from_numpy(random.permutation(len(latent)))
    width = latent.shape[-1]
    cut = int(random.integers(0, width // 2))
    taken = torch.rand(len(latent), 1, 1, 1) < 0.5
    mask = taken & (torch.arange(width) < cut)
    share = taken[:, :, 0, 0] * (cut / width)
    return torch.where(mask, latent[other], latent), F.normalize((1 - share) * target + share * target[other], dim=1)


def encoder_mark(codec: Codec) -> list[float]:
    """What an encoder makes of a fixed pattern: two exports of the same encoder agree in it, two encoders do not."""
    y, x = np.mgrid[:64, :64]
    waves = [np.sin(x / 3 + y / 7), np.sin(x * y / 90), np.sin((x - 32) ** 2 / 60)]
    frame = np.rint(127.5 + 120 * np.stack(waves, axis=2)).clip(0, 255).astype(np.uint8)
    return [round(float(value), 4) for value in codec.analyze(frame).values[::5, 1, 2]]


def made_before(
    bundle: Bundle, teacher_files: Sequence[Path], settings: AlignSettings, out: Path
) -> dict[str, Any] | None:
    """The report of the head in `out`, if it was made from the same things for the encoder that `bundle` has."""
    try:
        report = json.loads((out / REPORT).read_text())
        if not all((out / name).is_file() for name in (HEAD, LABELS)):
            return None
        mark = np.asarray(report["encoder_mark"], np.float64)
        now = np.asarray(encoder_mark(Codec(bundle, precision="fp32", runtime="cpu")))
        near = mark.shape == now.shape and np.allclose(mark, now, atol=_MARK_TOLERANCE * float(np.abs(now).max()))
        same = near and report["made_of"] == _made_of(teacher_files, find_photos(settings.data), settings)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if same else None


def add_head(bundle: Bundle, folder: Path, identity: Identity | None = None) -> dict[str, Any]:
    """Put the head in `folder` into the bundle, and vouch for it in the manifest; returns what stands there of it."""
    check_signed(bundle, identity)
    report = json.loads((folder / REPORT).read_text())
    head = cost([folder / HEAD])
    head |= {name: value for name, value in report.items() if name not in ("made_of", "encoder_mark")}
    change(bundle, {name: folder / name for name in (HEAD, LABELS)}, {"head": head}, identity)
    return head


def _made_of(teacher_files: Sequence[Path], photos: Sequence[Photo], settings: AlignSettings) -> str:
    parts = [*(digest_of(path) for path in teacher_files), *sorted(photo.digest for photo in photos)]
    parts += [str(settings.squares), str(settings.seed), f"{settings.minutes:g}", str(_FORM)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _latents(codec: Codec, photos: Sequence[Photo], count: int, progress: Progress) -> npt.NDArray[np.float16]:
    """float16 [pictures, squares, 96, h, w]."""
    side = SIDE // 16
    latents = np.empty((len(photos), count, 96, side, side), np.float16)
    for index, photo in enumerate(photos):
        for place, square in enumerate(squares(photo, count)):
            latents[index, place] = codec.analyze(square).values
        progress("encoding", (index + 1) / len(photos))
    return latents


def _embeddings(folder: Path, latents: npt.NDArray[np.float16]) -> Array:
    runner = OrtRunner(folder / HEAD)
    return np.stack([runner.run({"latent": latent[None].astype(np.float32)})["embedding"][0] for latent in latents])


def _cosine(folder: Path, latents: npt.NDArray[np.float16], targets: Array) -> float:
    """Mean cosine of the head and its teacher, over pictures and their first four squares."""
    found = _embeddings(folder, latents[:, :4].reshape(-1, *latents.shape[2:]))
    return round(float((found * targets[:, :4].reshape(-1, DIMENSIONS)).sum(1).mean()), 4)


@torch.no_grad()
def _check(head: Head, folder: Path, latents: npt.NDArray[np.float16]) -> None:
    got = _embeddings(folder, latents)
    worst = float(np.abs(head(torch.from_numpy(latents).float()).numpy() - got).max())
    if not worst <= _TOLERANCE:
        raise ExportError(f"{HEAD} differs from the trained head by {worst:g}: the export is not faithful")


def _write_labels(labels: Labels, folder: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **labels.to_arrays())  # type: ignore[arg-type]
    write_whole(folder / LABELS, buffer.getvalue())


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-9))
