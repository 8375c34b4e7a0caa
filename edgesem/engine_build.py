"""Building TensorRT engines from the graphs of a bundle, on the board that will run them.

One recipe for TensorRT 10.3 to 11.x: precision stands in the graph (QDQ for int8, casts for fp16), the network is
strongly typed, the builder's memory is bounded by what is free, and what it measured is kept for the next time.
The same recipe with `tensorrt_rtx` builds without any GPU, which `edgesem verify --tensorrt` uses as its gate.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.engine import FP16, INT8, EngineKey, Gpu, cache_folder, gpu, read_records
from edgesem.codec.flow import WINDOW
from edgesem.entropy.schedule import PERIOD, STRIDE
from edgesem.errors import ExportError, UsageError, require
from edgesem.files import write_whole
from edgesem.packet.packet import MAX_SIDE

PARTS = ("encoder", "decoder", "flow")
_SMALLEST, _LARGEST = (64, 64), (1920, 1088)
_MULTIPLES = {"flow": WINDOW, "context": STRIDE * PERIOD}  # of the sides that a graph takes, where not of STRIDE
_WORKSPACE_SHARE = 0.5  # of the memory that is free: board and builder share it
_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True)
class Sizes:
    """Width and height of the pictures that an engine takes: the smallest, the usual (fastest), the largest."""

    smallest: tuple[int, int] = _SMALLEST
    usual: tuple[int, int] = (640, 480)
    largest: tuple[int, int] = _LARGEST

    @classmethod
    def of(cls, usual: str) -> Sizes:
        """For a camera of `WIDTHxHEIGHT`, up to full HD or that size. Raises UsageError for anything else."""
        try:
            width, height = (int(part) for part in usual.lower().split("x"))
        except ValueError as error:
            raise UsageError(f"a size is written as 640x480, got {usual!r}") from error
        if not all(_SMALLEST[0] <= side <= MAX_SIDE for side in (width, height)):
            raise UsageError(f"sides must be {_SMALLEST[0]} to {MAX_SIDE} pixels, got {usual}")
        largest = (max(width, _LARGEST[0]), max(height, _LARGEST[1]))
        return cls(usual=(width, height), largest=largest)

    def __str__(self) -> str:
        return "-".join(f"{width}x{height}" for width, height in (self.smallest, self.usual, self.largest))


def build_engines(
    bundle: Bundle, sizes: Sizes, progress: Callable[[str, float], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Build what is missing of the engines of all graphs that a bundle has for TensorRT; a row for each.

    Raises MissingDependency without TensorRT, EnvironmentMissing without a GPU, ExportError when a graph cannot be
    built, UsageError when the bundle has no graph for TensorRT.
    """
    here = gpu()
    graphs = [part + suffix for part in PARTS for suffix in (INT8, FP16) if part + suffix in bundle.files]
    if not graphs:
        raise UsageError(f"{bundle.folder} has no graphs for TensorRT: export it with --target jetson-orin-nano")
    trt = require("tensorrt", "tensorrt")
    cache = cache_folder()
    rows = []
    for index, graph in enumerate(graphs):
        progress(f"building {graph}", index / len(graphs))
        key = EngineKey(bundle.files[graph], str(trt.__version__), here.compute_capability, here.name, str(sizes))
        rows.append({"graph": graph, **build_cached(trt, key, bundle.folder / graph, sizes, here, cache)})
    return rows


def build_cached(trt: Any, key: EngineKey, graph: Path, sizes: Sizes, here: Gpu, cache: Path) -> dict[str, Any]:
    """The engine of a key from the cache, or built and put there."""
    engine = cache / "engines" / f"{key.digest}.engine"
    for known, _, sha256 in read_records(engine.parent, [key.graph_sha256]):
        if known == key and hashlib.sha256(engine.read_bytes()).hexdigest() == sha256:
            return {"engine": engine, "built": False, "size_bytes": engine.stat().st_size}
    engine.parent.mkdir(parents=True, exist_ok=True)
    timings = cache / f"timing-{key.tensorrt}-{key.compute_capability}.cache"
    workspace = min(int(here.memory_free_bytes * _WORKSPACE_SHARE), _LIMIT_BYTES)
    plan = build_plan(trt, graph, sizes, workspace_bytes=workspace, timings=timings)
    write_whole(engine, plan)
    written = {"key": asdict(key), "graph": graph.name, "engine_sha256": hashlib.sha256(plan).hexdigest()}
    record = engine.with_suffix(".json")
    write_whole(record, json.dumps(written, indent=1).encode())  # last: an engine without its record is never loaded
    return {"engine": engine, "built": True, "size_bytes": len(plan)}


def build_plan(
    trt: Any,
    graph: Path,
    sizes: Sizes,
    *,
    workspace_bytes: int | None = None,
    timings: Path | None = None,
    configure: Callable[[Any], None] = lambda config: None,
) -> bytes:
    """The serialized engine of a graph, from `trt`: the module tensorrt, or tensorrt_rtx.

    Raises ExportError with what the parser or the builder said.
    """
    log = _log(trt)
    builder = trt.Builder(log)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph.read_bytes(), str(graph)):
        said = "; ".join(str(parser.get_error(index).desc()) for index in range(parser.num_errors))
        raise ExportError(f"{graph.name}: TensorRT {trt.__version__} cannot read it: {said}")
    config = builder.create_builder_config()
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *(_shape(tensor.name, shape, size, graph) for size in _three(sizes)))
    config.add_optimization_profile(profile)
    configure(config)
    if timings is None:
        plan = builder.build_serialized_network(network, config)
    else:
        with _timing_cache(config, timings):
            plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"{graph.name}: TensorRT {trt.__version__} cannot build it: {'; '.join(log.errors[-3:])}")
    return bytes(plan)


def _three(sizes: Sizes) -> tuple[tuple[int, int], ...]:
    return (sizes.smallest, sizes.usual, sizes.largest)


def _shape(name: str, shape: tuple[int, ...], size: tuple[int, int], graph: Path) -> tuple[int, ...]:
    """The shape of an input for pictures of a size: pictures have 3 channels, latents a sixteenth of the sides."""
    multiple = next((sides for part, sides in _MULTIPLES.items() if graph.name.startswith(part)), STRIDE)
    width, height = (-(-side // multiple) * multiple for side in size)
    scale = 1 if shape[1] == 3 else STRIDE
    if len(shape) != 4 or shape[1] == -1:
        raise ExportError(f"{graph.name}: input {name} has shape {list(shape)}, only height and width may be free")
    return (1, shape[1], height // scale, width // scale)


@contextmanager
def _timing_cache(config: Any, path: Path) -> Iterator[None]:
    """Let a build use what earlier builds measured, and keep what it adds; other builders wait only to read and write.

    The file may have grown meanwhile, so the new measurements are merged into what it then holds.
    """
    with _locked(path):
        before = path.read_bytes() if path.exists() else b""
    cache = config.create_timing_cache(before)
    config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    with _locked(path):
        merged = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
        merged.combine(config.get_timing_cache(), ignore_mismatch=False)
        write_whole(path, bytes(merged.serialize()))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed, also by a crash
        yield


def _log(trt: Any) -> Any:
    """A logger that keeps the errors, so that a failure can say what TensorRT said."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()
