"""TensorRT engines built on this machine: where they are kept, when one may be used, and its runner.

An engine is a program for one GPU, one TensorRT and one graph. Its file name is the digest of all that it depends on:
if anything of that has changed, no engine is found, and a stale one is never loaded. `edgesem engine` builds them.

Nothing here has run on a GPU yet; the calls are those that the bindings of TensorRT 10.3 to 11.4 document.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import BundleError, EnvironmentMissing, require

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle
    from edgesem.bundle.graph_runner import Arrays

INT8, FP16 = ".trt-int8.onnx", ".trt-fp16.onnx"
_MAX_RECORD_BYTES = 1 << 16
_DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class Gpu:
    """The properties of a GPU that decide whether an engine fits it."""

    name: str
    compute_capability: str
    memory_free_bytes: int


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on."""

    graph_sha256: str
    tensorrt: str
    compute_capability: str
    gpu: str
    profile: str
    """Smallest, usual and largest width and height that it takes, as `64x64-640x480-1920x1088`."""

    @property
    def digest(self) -> str:
        """SHA-256 of all fields, in hex: the name of the engine's file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Found:
    """An engine that may be used, or why there is none."""

    path: Path | None
    reason: str
    worth_saying: bool = True
    """Whether a user wants to hear the reason; False where nobody has tried TensorRT."""


def cache_folder() -> Path:
    """Folder of what can be made anew, such as engines: $EDGESEM_CACHE, or edgesem/ in the user's cache."""
    chosen = os.environ.get("EDGESEM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgesem"


def gpu() -> Gpu:
    """The first GPU. Raises EnvironmentMissing when there is none, MissingDependency without CUDA's bindings."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise EnvironmentMissing(
            f"no GPU of NVIDIA can be used here ({error}): engines are built and run on the board itself; "
            "`edgesem verify BUNDLE --tensorrt` says without a GPU whether its graphs build"
        ) from error
    runtime = require("cuda.bindings.runtime", "tensorrt")
    properties = _checked(runtime.cudaGetDeviceProperties(0), "there is no GPU that CUDA can use")
    free, _ = _checked(runtime.cudaMemGetInfo(), "the GPU does not say how much memory is free")
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return Gpu(name.rstrip("\0"), f"{properties.major}.{properties.minor}", int(free))


def find_engine(bundle: Bundle, part: str, precision: str = "auto", folder: Path | None = None) -> Found:
    """The engine that `edgesem engine` built here for this very graph, GPU and TensorRT, int8 before fp16.

    A record beside each engine says what it was built from; the engine's own bytes are checked against it.
    """
    engines = (folder or cache_folder()) / "engines"
    suffixes = [suffix for suffix in (INT8, FP16) if precision in ("auto", "int8" if suffix == INT8 else "fp32")]
    graphs = {bundle.files[part + suffix]: part + suffix for suffix in suffixes if part + suffix in bundle.files}
    if not graphs:
        return Found(None, f"the bundle has no graph of the {part} for TensorRT", worth_saying=False)
    records = read_records(engines, graphs)
    if not records:
        return Found(None, f"no engine was built here for {' or '.join(graphs.values())}", engines.exists())
    try:
        version, here = str(require("tensorrt", "tensorrt").__version__), gpu()
    except (ImportError, OSError) as error:
        return Found(None, f"an engine is here, but {error}")
    wanted = list(graphs)
    for key, path, sha256 in sorted(records, key=lambda record: wanted.index(record[0].graph_sha256)):
        if (key.tensorrt, key.compute_capability, key.gpu) != (version, here.compute_capability, here.name):
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return Found(path, f"{graphs[key.graph_sha256]} was built here for {here.name}, TensorRT {version}")
    return Found(None, f"its engines are for another GPU or TensorRT than {here.name}, {version}: run edgesem engine")


def read_records(folder: Path, graphs: Collection[str]) -> list[tuple[EngineKey, Path, str]]:
    """Key, engine file and its digest of each engine in the cache that was made from a graph of these digests."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            if path.stat().st_size > _MAX_RECORD_BYTES:
                continue
            record = json.loads(path.read_text())
            key, engine = EngineKey(**record["key"]), path.with_suffix(".engine")
            if key.digest == path.stem and key.graph_sha256 in graphs and engine.is_file():
                found.append((key, engine, str(record["engine_sha256"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # somebody else's file, or half of an old one: never loaded
    return found


class TensorRtRunner:
    """A TensorRT engine with the interface of every runner. Buffers live on the GPU and grow with the largest feed.

    Raises BundleError when TensorRT refuses the engine. Several threads may call `run`; it serves one at a time.
    """

    def __init__(self, path: Path) -> None:
        trt = require("tensorrt", "tensorrt")
        self._cuda = require("cuda.bindings.runtime", "tensorrt")
        self._trt = trt
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BundleError(f"{path}: TensorRT {trt.__version__} refuses this engine: build it with edgesem engine")
        self._engine, self._context = engine, engine.create_execution_context()
        if self._context is None:
            raise EnvironmentMissing(f"{path}: no memory on the GPU to run this engine: close what else uses it")
        self._stream = self._call("cudaStreamCreate")
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if name not in self._inputs]
        self._buffers: dict[str, tuple[int, int]] = {}  # address and size in bytes
        self._lock = Lock()

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """See GraphRunner. BundleError for sizes that the engine was not built for, EnvironmentMissing from CUDA."""
        with self._lock:
            return self._run(feed)

    def _run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        kinds = self._cuda.cudaMemcpyKind
        for name in self._inputs:
            array = np.ascontiguousarray(feed[name], self._dtype(name))
            if not self._context.set_input_shape(name, array.shape):
                raise BundleError(f"{name} of {list(array.shape)} is outside the sizes that this engine was built for")
            self._copy(self._buffer(name, array.nbytes), array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice)
        results = {
            name: np.empty(tuple(self._context.get_tensor_shape(name)), self._dtype(name)) for name in self._outputs
        }
        for name, array in results.items():
            self._buffer(name, array.nbytes)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EnvironmentMissing("TensorRT could not run the engine: see its log above")
        for name, array in results.items():
            self._copy(array.ctypes.data, self._buffers[name][0], array.nbytes, kinds.cudaMemcpyDeviceToHost)
        self._call("cudaStreamSynchronize", self._stream)
        return {name: array.astype(np.float32, copy=False) for name, array in results.items()}

    def close(self) -> None:
        """Give the GPU's memory back."""
        for address, _ in self._buffers.values():
            self._call("cudaFree", address)
        self._buffers.clear()

    def _dtype(self, name: str) -> Any:
        return self._trt.nptype(self._engine.get_tensor_dtype(name))

    def _buffer(self, name: str, size_bytes: int) -> int:
        """The address of a buffer on the GPU that holds so much, told to the engine."""
        address, room = self._buffers.get(name, (0, 0))
        if room < size_bytes:
            if address:
                self._call("cudaFree", address)
            address = int(self._call("cudaMalloc", size_bytes))
            self._buffers[name] = (address, size_bytes)
        self._context.set_tensor_address(name, address)
        return address

    def _copy(self, to: int, source: int, size_bytes: int, kind: Any) -> None:
        self._call("cudaMemcpyAsync", to, source, size_bytes, kind, self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        return _checked(getattr(self._cuda, name)(*arguments), f"CUDA: {name} failed")


def _checked(answer: tuple[Any, ...], what: str) -> Any:
    """The result of a CUDA call, which comes behind its error code: nothing, one value or several."""
    error, *values = answer
    if int(error) != 0:
        raise EnvironmentMissing(f"{what}: {error.name if hasattr(error, 'name') else error}")
    return values[0] if len(values) == 1 else tuple(values)
