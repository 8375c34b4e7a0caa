"""Model that the pipeline makes a bundle of: networks, gains, the writers of its graphs, and the parity gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgesem.bundle.bundle import KEY, LARGE_DECODER, REFERENCE
from edgesem.bundle.manifest import digest_of
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.flow import WINDOW
from edgesem.codec.latent import LEVELS
from edgesem.errors import ExportError, InputError
from edgesem.files import find_pictures
from edgesem.quality.metrics import Frame
from export.custom import hf
from export.graphs import context as context_files
from export.graphs import write as graph
from export.training.codec import TrainConfig, open_run
from export.training.flow import open_flow
from export.training.large import open_large
from export.training.reference import open_reference

Feed = dict[str, npt.NDArray[np.float32]]
Writer = Callable[[Any, Path], None]

GRAPHS: dict[str, Writer] = {
    "encoder": graph.export_encoder,
    "decoder": graph.export_decoder,
    "decoder.large": partial(graph.export_decoder, name=LARGE_DECODER),
    "context": context_files.export_context,
    "flow": graph.export_flow,
    "reference": context_files.export_reference,
    "vision": hf.export_vision,
}
"""How each part is written; a part that a model lacks is left out. To add one, add its line here and to `feeds_of`."""

_TOLERANCE = 1e-3  # float graphs may differ by so much of their largest value, or of 1; the context model by nothing


@dataclass(frozen=True)
class Model:
    """Networks with the interface of the codec, and where they came from."""

    identity: str
    """Another one means other weights."""
    parts: Mapping[str, nn.Module]
    gain: npt.NDArray[np.float32]
    inverse_gain: npt.NDArray[np.float32]
    training: dict[str, Any]
    writers: Mapping[str, Writer] = field(default_factory=dict)
    """For parts that are not written in the usual way (GRAPHS)."""

    def with_vision(self, folder: Path) -> Model:
        """This model with the vision encoder of a Hugging Face folder beside it, for pictures' embeddings."""
        parts = {**self.parts, "vision": hf.open_vision(folder)}
        training = {**self.training, "vision": {"folder": folder.name}}
        return replace(self, identity=self.identity + hf.identity_of(folder), parts=parts, training=training)

    def write(self, part: str, folder: Path) -> None:
        """Write the graph or graphs of a part."""
        self.writers.get(part, GRAPHS[part])(self.parts[part], folder)


def graph_files(part: str) -> tuple[str, ...]:
    """The files that a part consists of."""
    return {"context": KEY, "reference": REFERENCE}.get(part, (f"{part}.onnx",))


def model_of_run(
    run: Path, flow: Path | None = None, reference: Path | None = None, large: Path | None = None
) -> Model:
    """The model in the folder of a training run, with flow decoder, references and large decoder of others if named."""
    net, config = open_run(run)
    parts: dict[str, nn.Module] = {"encoder": net.encoder, "decoder": net.decoder, "context": net.context}
    identity = digest_of(run / "weights.safetensors")
    training = training_record(run, config)
    others: list[tuple[str, Path | None, Callable[[Path], nn.Module]]] = [
        ("flow", flow, lambda folder: open_flow(folder)[0]),
        ("reference", reference, lambda folder: open_reference(folder, net)),
        ("decoder.large", large, lambda folder: open_large(folder, net.decoder)),
    ]
    for part, folder, opened in others:
        if folder is not None:
            parts[part] = opened(folder)
            identity += digest_of(folder / "weights.safetensors")
            training[part] = {"history": history_of(folder)}
    with torch.no_grad():
        quality = torch.arange(LEVELS + 1.0).view(-1, 1, 1, 1) / LEVELS
        gain, inverse = (part[:, :, 0, 0].numpy() for part in net.gains(quality))
    return Model(identity, parts, gain, inverse, training)


def feeds_of(part: str, frame: Frame, model: Model, level: float = 0.5) -> Feed:
    """What a part gets when it works on `frame`, as far as that needs no entropy coding."""
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    half = torch.full((1, 1, 1, 1), level)
    if part in ("encoder", "vision"):
        return {"frame": planes.numpy()}
    latent = model.parts["encoder"](planes)
    if part in ("decoder", "decoder.large"):
        return {"latent": latent.numpy(), "quality": half.numpy()}
    if part in ("context", "reference"):
        step = torch.from_numpy(model.gain[round(level * LEVELS)])[None, :, None, None]
        values = (latent * step * 8).round().clamp(-2047, 2047)
        plane = torch.full((1, 1, *latent.shape[2:]), float(round(level * LEVELS)))
        feed = {"values": values.numpy(), "level": plane.numpy()}
        if part == "context":
            return feed
        moved = values.roll(1, 3)
        return {
            **feed,
            "reference": moved.numpy(),
            "change": (values - moved).numpy(),
            "reference_level": plane.numpy(),
        }
    height, width = (side // WINDOW * WINDOW for side in planes.shape[2:])
    latent = latent[:, :, : height // 16, : width // 16].contiguous()
    base = model.parts["decoder"](latent, half).numpy()
    times = np.full((1, 1, 1, 1), 0.5, np.float32)
    return {"state": base, "base": base, "latent": latent.numpy(), "quality": half.numpy(), "time": times}


@torch.no_grad()
def check_parity(model: Model, folder: Path, frames: Sequence[Frame]) -> dict[str, dict[str, float]]:
    """The largest and the 99th percentile difference between each graph and its network, on real pictures.

    Raises ExportError when a float graph differs by more than 1e-3 of its largest value, or the context model at all.
    """
    found = {}
    for part, module in model.parts.items():
        runners = [OrtRunner(folder / file) for file in graph_files(part)]
        networks = list(module.nets) if part in ("context", "reference") else [module]  # type: ignore[arg-type]
        differences, largest = [], 0.0
        for frame in frames:
            feed = feeds_of(part, frame, model)
            for index, (network, runner) in enumerate(zip(networks, runners, strict=True)):
                if part in ("context", "reference"):
                    pairs = context_files.both_ways(index, network, runner, feed)
                else:
                    wanted = network(*(torch.from_numpy(array) for array in feed.values()))
                    pairs = [(wanted.numpy(), *runner.run(feed).values())]
                for mine, got in pairs:
                    differences.append(np.abs(mine - got).ravel())
                    largest = max(largest, float(np.abs(mine).max(initial=0)))
        all_of_them = np.concatenate(differences)
        worst = float(all_of_them.max())
        if not worst <= (0.0 if part in ("context", "reference") else _TOLERANCE * max(1.0, largest)):  # NaN fails too
            raise ExportError(f"{part}.onnx differs from the trained network by {worst:g}: the export is not faithful")
        found[part] = {"max_error": worst, "p99_error": float(np.quantile(all_of_them, 0.99))}
    return found


def history_of(run: Path) -> list[dict[str, Any]]:
    """The settings of a run and of those that it went on from, as they stand in a manifest. InputError without."""
    return _records(run, "history.jsonl")


def training_record(run: Path, config: TrainConfig) -> dict[str, Any]:
    """What the weights were made from, without the folder names of the machine that made them."""
    names = "\n".join(path.name for path in find_pictures(Path(config.data))) if Path(config.data).is_dir() else ""
    log = _records(run, "log.jsonl")
    return {
        "history": history_of(run),
        "steps": log[-1]["step"] if log else None,
        "pictures": names.count("\n") + 1 if names else None,
        "names_sha256": hashlib.sha256(names.encode()).hexdigest() if names else None,
    }


def _records(run: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a file that a run keeps."""
    try:
        return [json.loads(line) for line in (run / name).read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{run} lacks its log or history: {error}; copy the whole folder of the run") from error
