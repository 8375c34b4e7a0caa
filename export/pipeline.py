"""From a training run to a bundle: graphs, tables, parity, measured quality, manifest.

    run -> graphs (ONNX) -> parity gate -> tables by counting -> quality on held-out pictures -> manifest -> bundle

Everything is written into a temporary folder beside the target and moved there at the end, so a failed gate leaves
nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgesem.bundle import MANIFEST, Bundle, digest_of
from edgesem.codec import LEVELS, Codec
from edgesem.context import CHANNELS, STRIDE, context_graph
from edgesem.errors import ExportError, InputError
from edgesem.files import find_pictures, read_picture
from edgesem.quality import ms_ssim, psnr
from edgesem.runner import OrtRunner
from edgesem.tables import Tables
from export import graph
from export.fit import count_symbols, fitted_tables, rate_curve, starting_tables
from export.train import CodecNet, TrainConfig, load_weights

BUNDLE_FORMAT = 1
CALIBRATION_PICTURES = 160
PARITY_PICTURES = 4
QUALITY_LEVELS = (30, 90, 150, 210)
_CALIBRATION_SIDE = 384
_CURVE_EVERY = 5
_PARITY = {"encoder": 1e-3, "decoder": 1e-3}  # float graphs may differ by this much; the context model by nothing

Frame = npt.NDArray[np.uint8]
Progress = Callable[[str, float], None]


def export_bundle(
    run: Path, out: Path, data: Path, check: Path | None, name: str, progress: Progress
) -> dict[str, Any]:
    """Export the run in folder `run` to a new bundle in folder `out`, and return its manifest.

    data: photographs to count symbols on; check: photographs that training has not seen, to measure quality on.
    Raises ExportError when a gate fails, InputError for unusable input. `progress(stage, 0..1)` is called along the
    way.
    """
    net, config = open_run(run)
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is in the way and is no bundle: name another --out or remove it")
    paths = find_pictures(data)
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, min(CALIBRATION_PICTURES, len(paths))).astype(int)]
    frames = [_crop(read_picture(path), index) for index, path in enumerate(paths)]
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for index, (part, write) in enumerate(_GRAPHS.items()):
            progress(f"graph of the {part}", index / len(_GRAPHS))
            write(getattr(net, part), work)
        parity = check_parity(net, work, frames[:PARITY_PICTURES])
        draft = {"name": name, "format": BUNDLE_FORMAT}
        _write_tables(work / "tables.npz", starting_tables(), net)
        codec = Codec(_seal(work, draft), threads=os.cpu_count() or 1)
        counts = count_symbols(codec, frames, partial(progress, "counting symbols"))
        _write_tables(work / "tables.npz", fitted_tables(counts), net)
        codec = Codec(_seal(work, draft), threads=os.cpu_count() or 1)
        curve = rate_curve(codec, frames[::_CURVE_EVERY], partial(progress, "measuring the rate curve"))
        _write_tables(work / "tables.npz", codec.bundle.tables, net, *curve)
        draft["parity"] = parity
        for part in _GRAPHS:
            draft[part] = cost(getattr(net, part), sorted(work.glob(f"{part}*.onnx")))
        draft["flow"] = None
        draft["training"] = training_record(run, config)
        held_out = check is not None and check.resolve() != data.resolve()
        checked = [read_picture(path) for path in find_pictures(check or data)[:24]]
        points = measure(Codec(_seal(work, draft), threads=os.cpu_count() or 1), checked, progress)
        draft["quality"] = {
            "pictures": f"{len(checked)} {'held-out' if held_out else 'training'} pictures of {(check or data).name}",
            "points": points,
        }
        bundle = _seal(work, draft)
        _replace(work, out)
        return dict(bundle.manifest)
    finally:
        shutil.rmtree(work, ignore_errors=True)


_GRAPHS: dict[str, Callable[..., None]] = {
    "encoder": graph.export_encoder,
    "decoder": graph.export_decoder,
    "context": graph.export_context,
}


def open_run(run: Path) -> tuple[CodecNet, TrainConfig]:
    """The averaged weights of a run and what it was asked to do. Raises InputError when the folder holds no run."""
    try:
        config = TrainConfig(**json.loads((run / "config.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run} does not hold a training run: {error}; make one with edgesem train") from error
    net = CodecNet()
    load_weights(net, run / "weights.safetensors")
    return net.eval(), config


@torch.no_grad()
def check_parity(net: CodecNet, folder: Path, frames: Sequence[Frame]) -> dict[str, dict[str, float]]:
    """The largest difference between each graph in ONNX Runtime and the network it came from, on real pictures.

    Raises ExportError when a float graph differs by more than 1e-3 or the context model differs at all.
    """
    encoder, decoder = OrtRunner(folder / "encoder.onnx"), OrtRunner(folder / "decoder.onnx")
    context = [OrtRunner(folder / context_graph(index)) for index in range(len(net.context.nets))]
    worst = dict.fromkeys(_GRAPHS, 0.0)
    half = torch.full((1, 1, 1, 1), 0.5)
    for frame in frames:
        planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        latent = net.encoder(planes)
        picture = net.decoder(latent, half)
        values = (latent * net.gains(half)[0] * 8).round().clamp(-2047, 2047)
        plane = torch.full((1, 1, *latent.shape[2:]), 128.0)
        feed = {"values": values.numpy(), "level": plane.numpy()}
        pairs: dict[str, list[tuple[torch.Tensor, npt.NDArray[np.float32]]]] = {
            "encoder": [(latent, encoder.run({"frame": planes.numpy()})["latent"])],
            "decoder": [(picture, decoder.run({"latent": latent.numpy(), "quality": half.numpy()})["picture"])],
            "context": [],
        }
        for sweep, runner in zip(net.context.nets, context, strict=True):
            mean, scale = sweep(values, plane)
            got = runner.run(feed)
            pairs["context"] += [(mean, got["mean"]), (scale, got["scale"])]
        for part, outputs in pairs.items():
            for wanted, array in outputs:
                worst[part] = max(worst[part], float(np.abs(wanted.numpy() - array).max()))
    for part, difference in worst.items():
        if difference > _PARITY.get(part, 0.0):
            raise ExportError(
                f"{part}.onnx differs from the trained network by {difference:g}: the export is not faithful"
            )
    return {part: {"max_error": difference} for part, difference in worst.items()}


def cost(module: nn.Module, paths: Sequence[Path]) -> dict[str, Any]:
    """Multiply-adds a pixel and parameters of a part; `module` is the network that its graphs were made from."""
    graphs = [onnx.load(path).graph for path in paths]
    weights = sum(int(np.prod(w.dims)) for g in graphs for w in g.initializer if len(w.dims) == 4)
    macs = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal macs
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        macs += positions.shape[2] * positions.shape[3] * layer.weight.numel()  # type: ignore[operator]

    side = 8 * STRIDE
    hooks = [m.register_forward_hook(count) for m in module.modules() if hasattr(m, "weight") and m.weight.ndim == 4]
    latent = torch.zeros(1, CHANNELS, side // STRIDE, side // STRIDE)
    feeds = {
        "encoder": lambda: module(torch.zeros(1, 3, side, side)),
        "decoder": lambda: module(latent, torch.zeros(1, 1, 1, 1)),
        "context": lambda: module(latent, torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 4)),
    }
    with torch.no_grad():
        feeds[paths[0].stem.split("_")[0]]()
    for hook in hooks:
        hook.remove()
    return {
        "kmac_per_pixel": round(macs / side**2 / 1000, 3),
        "parameters": weights,
        "size_bytes": sum(path.stat().st_size for path in paths),
    }


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


def training_record(run: Path, config: TrainConfig) -> dict[str, Any]:
    """What the weights were made from, without the folder names of the machine that made them."""
    names = "\n".join(path.name for path in find_pictures(Path(config.data))) if Path(config.data).is_dir() else ""
    try:
        lines = (run / "log.jsonl").read_text().splitlines()
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{run} lacks its log or history: {error}; copy the whole folder of the run") from error
    commands = [
        f"edgesem train --data DIR --out RUN --minutes {part['minutes']:g} --seed {part['seed']} "
        f"--ms-ssim {part['ms_ssim']:g} --learning-rate {part['learning_rate']:g} --crop {part['crop']} "
        f"--batch {part['batch']}"
        for part in history
    ]
    return {
        "commands": [*commands, "edgesem export RUN --out BUNDLE"],
        "history": history,
        "steps": json.loads(lines[-1])["step"] if lines else None,
        "pictures": names.count("\n") + 1 if names else None,
        "names_sha256": hashlib.sha256(names.encode()).hexdigest() if names else None,
    }


def _write_tables(
    path: Path,
    tables: Tables,
    net: CodecNet,
    curve: npt.NDArray[np.float64] | None = None,
    guess: npt.NDArray[np.float64] | None = None,
) -> None:
    """Write tables, gains at all levels and, once measured, what helps to meet a budget."""
    with torch.no_grad():
        quality = torch.arange(LEVELS + 1.0).view(-1, 1, 1, 1) / LEVELS
        gain, inverse = (part[:, :, 0, 0].numpy() for part in net.gains(quality))
    np.savez(
        path,
        radius=tables.radius,
        frequency=tables.frequency.astype(np.int32),
        gain=gain,
        inverse_gain=inverse,
        rate_curve=np.zeros(LEVELS + 1) if curve is None else curve,
        rate_guess=np.zeros(2) if guess is None else guess,
    )


def _seal(folder: Path, draft: dict[str, Any]) -> Bundle:
    """Write the manifest over the files as they are now, and open the bundle."""
    files = {path.name: digest_of(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = {**draft, "version": 1, "opset": graph.OPSET, "licence": "Apache-2.0", "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return Bundle.open(folder)


def _replace(work: Path, out: Path) -> None:
    """Put the finished folder in place of `out`; whoever looks sees the old bundle or the new one."""
    os.chmod(work, 0o755)
    old = out.with_name(f".{out.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(work, out)
    shutil.rmtree(old, ignore_errors=True)


def _crop(frame: Frame, index: int) -> Frame:
    """A piece of a picture with sides of whole strides, from a place that changes with `index`."""
    height, width = (min(_CALIBRATION_SIDE, side) // STRIDE * STRIDE for side in frame.shape[:2])
    top = (index * 61) % (frame.shape[0] - height + 1)
    left = (index * 101) % (frame.shape[1] - width + 1)
    return np.ascontiguousarray(frame[top : top + height, left : left + width])
