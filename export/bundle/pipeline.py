"""Pipeline from a model to a bundle, step by step; a failed gate stops it and leaves nothing.

    model -> graphs (ONNX) -> parity gate -> tables by counting -> rate guess -> int8 and TensorRT forms
          -> golden packets -> quality on held-out pictures -> manifest, signature -> verify -> bundle

Everything grows in a hidden folder beside the target and is moved there at the end. That folder survives when the
export is stopped, and with `resume` also a failure and the end: steps whose inputs are unchanged are not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import FORMAT, GOLDEN
from edgesem.bundle.manifest import digest_of
from edgesem.codec.budget import KNOTS
from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import PackOptions
from edgesem.entropy.schedule import STRIDE
from edgesem.entropy.tables import Tables
from edgesem.errors import ExportError
from edgesem.files import find_pictures, read_picture, spread, write_whole
from edgesem.packet.keys import Identity
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, SideInformation
from edgesem.quality.metrics import Frame, ms_ssim, psnr
from edgesem.sources import program_digest
from export.bundle.folder import check_replaceable, replace_folder, seal, work_folder
from export.bundle.model import Model, check_parity, graph_files
from export.bundle.steps import Steps
from export.bundle.tables import count_references, count_symbols, fitted_tables, rate_guess, starting_tables
from export.bundle.verify import latent_digest, verify
from export.data.pack import picture_folder
from export.data.pictures import readable_pictures
from export.graphs.cost import cost
from export.graphs.targets import OPSET, Target, target_of
from export.program import PACKAGES
from export.quantization.forms import add_int8, add_tensorrt

CALIBRATION_PICTURES = 160
PARITY_PICTURES = 4
QUALITY_LEVELS = (30, 90, 150, 210)
_CALIBRATION_SIDE = 384

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Settings:
    """Settings of an export, besides the model.

    data, check: folders of photographs, or packed files of them (export.data.pack).
    int8: parts that get an int8 form, kept where it costs at most `int8_percent` of rate and pays.
    """

    name: str
    data: Path
    check: Path | None = None
    target: str = "x86"
    int8: tuple[str, ...] = ()
    int8_percent: float = 1.0
    resume: bool = False
    licence: str = "Apache-2.0"


def export_model(
    model: Model, out: Path, settings: Settings, progress: Progress, identity: Identity | None = None
) -> dict[str, Any]:
    """Write a model's bundle to folder `out` and return its manifest.

    With it come the seconds of each step as `steps`, and what `edgesem verify` found as `checks`. Raises ExportError
    when a gate fails, InputError for unusable input. `progress(stage, 0..1)` is called along the way.
    """
    target = target_of(settings.target)
    check_replaceable(out)
    with ExitStack() as unpacked:
        data = unpacked.enter_context(picture_folder(settings.data))
        check = data if settings.check is None else unpacked.enter_context(picture_folder(settings.check))
        paths = spread(find_pictures(data), CALIBRATION_PICTURES)
        frames = [_crop(frame, index) for index, (_, frame) in enumerate(readable_pictures(paths))]
        checked_paths = find_pictures(check)[:24]
        out.parent.mkdir(parents=True, exist_ok=True)
        steps = Steps(work_folder(out), resume=settings.resume)
        try:
            manifest = _make(model, steps, settings, target, frames, checked_paths, progress, identity)
            checks = _verified(steps.files, target, progress)
            replace_folder(steps.files, out, copy=settings.resume)
        except KeyboardInterrupt:
            raise  # the folder stays for --resume
        except BaseException:
            _clear(steps, settings)
            raise
        _clear(steps, settings)
    return {**manifest, "checks": checks, "steps": steps.seconds}


def _clear(steps: Steps, settings: Settings) -> None:
    if not settings.resume:
        shutil.rmtree(steps.folder, ignore_errors=True)


def _verified(folder: Path, target: Target, progress: Progress) -> dict[str, bool | None]:
    """What `edgesem verify` finds without pictures, by the name of each check. Raises ExportError when one fails."""
    checks = verify(folder, target=target, frames=[], progress=progress)
    failed = [f"{check.name}: {check.findings['error']}" for check in checks if check.ok is False]
    if failed:
        raise ExportError(f"the bundle does not hold what it promises: {'; '.join(failed)}")
    return {check.name: check.ok for check in checks}


def _make(
    model: Model,
    steps: Steps,
    settings: Settings,
    target: Target,
    frames: Sequence[Frame],
    checked_paths: Sequence[Path],
    progress: Progress,
    identity: Identity | None,
) -> dict[str, Any]:
    folder, threads = steps.files, os.cpu_count() or 1
    draft: dict[str, Any] = {"name": settings.name, "format": FORMAT, "target": target.name}
    draft |= {"version": 1, "opset": OPSET, "licence": settings.licence}

    def codec() -> Codec:
        return Codec(seal(folder, draft), threads, precision="fp32", runtime="cpu")

    def graphs() -> dict[str, Any]:
        for index, part in enumerate(model.parts):
            progress(f"graph of the {part}", index / len(model.parts))
            model.write(part, folder)
        return {part: cost([folder / file for file in graph_files(part)]) for part in model.parts}

    def tables() -> dict[str, Any]:
        write_tables(folder, model, starting_tables())
        counts = count_symbols(codec(), frames, partial(progress, "counting symbols"))
        key = fitted_tables(counts)
        write_tables(folder, model, key)
        if "reference" in model.parts:
            write_tables(folder, model, key, reference=starting_tables(narrowest=24))
            referring = count_references(codec(), settings.data, partial(progress, "counting symbols of references"))
            write_tables(folder, model, key, reference=fitted_tables(referring))
        return {}

    def guess() -> dict[str, Any]:
        measured = rate_guess(codec(), frames, partial(progress, "learning to foretell sizes"))
        bundle = codec().bundle
        write_tables(folder, model, bundle.tables, measured, bundle.reference_tables if bundle.has_reference else None)
        return {}

    pictures = hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()
    draft["flow"] = None
    draft |= steps.run("graphs", [model.identity, program_digest(PACKAGES)], graphs)
    draft["parity"] = steps.run("parity", pictures, lambda: check_parity(model, folder, frames[:PARITY_PICTURES]))
    steps.run("tables", pictures, tables)
    steps.run("rate guess", pictures, guess)
    draft["training"] = model.training
    wanted = [settings.int8, settings.int8_percent]
    draft["int8"] = steps.run(
        "int8", wanted, lambda: add_int8(seal(folder, draft), frames, settings.int8, settings.int8_percent, progress)
    )
    if target.tensorrt:
        draft["tensorrt"] = steps.run(
            "tensorrt",
            [target.name, settings.int8_percent],
            lambda: add_tensorrt(seal(folder, draft), frames, settings.int8_percent, progress),
        )
    steps.run("golden packets", "", lambda: write_golden(codec(), frames[:3]))
    held_out = settings.check is not None and settings.check.resolve() != settings.data.resolve()
    about = f"{len(checked_paths)} {'held-out' if held_out else 'training'} pictures of "
    about += (settings.check or settings.data).name

    def quality() -> dict[str, Any]:
        checked = [read_picture(path) for path in checked_paths]
        ready = Codec(seal(folder, draft), threads, runtime="cpu")  # as it runs here, int8 where that is chosen
        return {"pictures": about, "points": measure(ready, checked, progress)}

    draft["quality"] = steps.run("quality", [about, *(digest_of(path) for path in checked_paths)], quality)
    return dict(seal(folder, draft, identity).manifest)


def measure(codec: Codec, frames: Sequence[Frame], progress: Progress) -> list[dict[str, float]]:
    """Mean bits per pixel of real packets, PSNR and MS-SSIM at a few qualities, on the exported graphs."""
    points = []
    for index, level in enumerate(QUALITY_LEVELS):
        rows = []
        for place, frame in enumerate(frames):
            progress("measuring quality", (index + place / len(frames)) / len(QUALITY_LEVELS))
            data = codec.encode(frame, quality=level / LEVELS)
            decoded = codec.decode(data)
            rows.append((8 * len(data) / frame[..., 0].size, psnr(frame, decoded), ms_ssim(frame, decoded)))
        means = np.mean(rows, 0).round(4).tolist()
        points.append(
            {"quality": round(level / LEVELS, 4), **dict(zip(("bpp", "psnr", "ms_ssim"), means, strict=True))}
        )
    return points


def write_tables(
    folder: Path,
    model: Model,
    tables: Tables,
    guess: npt.NDArray[np.float64] | None = None,
    reference: Tables | None = None,
) -> None:
    """Write tables, gains at all levels and, once learnt, what helps to meet a budget."""
    more: dict[str, Any] = {} if reference is None else {"reference_radius": reference.radius}
    if reference is not None:
        more["reference_frequency"] = reference.frequency.astype(np.int32)
    np.savez(
        folder / "tables.npz",
        **more,
        radius=tables.radius,
        frequency=tables.frequency.astype(np.int32),
        gain=model.gain,
        inverse_gain=model.inverse_gain,
        rate_guess=np.zeros((len(KNOTS), 9)) if guess is None else guess,
    )


def write_golden(codec: Codec, frames: Sequence[Frame]) -> dict[str, Any]:
    """Write packets and what they mean, so that any machine can prove that it reads them the same."""
    entries: list[dict[str, Any]] = []

    def add(packet: Packet, reference: Latent | None = None) -> None:
        prefixes = map(packet.prefix, range(1, len(packet.chunks) + 1))
        digests = [latent_digest(codec, prefix, reference) for prefix in prefixes]
        entries.append({"packet": packet.to_bytes().hex(), "latent_sha256": digests})

    for index, frame in enumerate(frames):
        piece = np.ascontiguousarray(frame[: 96 + 25 * index, : 160 - 31 * index])
        packet, known = codec.pack_decoded(
            codec.analyze(piece), quality=(0.25, 0.55, 0.9)[index], options=PackOptions(frame=len(entries))
        )
        add(packet)
        if codec.has_reference:  # the same place a pixel further on, which refers to the entry before by its number
            side_info = SideInformation(reference=Reference(len(entries) - 1, len(packet.chunks)))
            latent = codec.analyze(np.ascontiguousarray(np.roll(piece, 1, 1)))
            options = PackOptions(side_info=side_info, reference=known)
            add(codec.pack(latent, quality=(0.4, 0.5, 0.7)[index], options=options), known)
    write_whole(codec.bundle.folder / GOLDEN, (json.dumps(entries, indent=1) + "\n").encode())
    return {}


def _crop(frame: Frame, index: int) -> Frame:
    """A piece of a picture with sides of whole strides, from a place that changes with `index`."""
    height, width = (min(_CALIBRATION_SIDE, side) // STRIDE * STRIDE for side in frame.shape[:2])
    top = (index * 61) % (frame.shape[0] - height + 1)
    left = (index * 101) % (frame.shape[1] - width + 1)
    return np.ascontiguousarray(frame[top : top + height, left : left + width])
