"""Runners of a bundle's graphs: ONNX Runtime, and the choice of graph and runtime for this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_runner import Arrays
from edgesem.bundle.pixel_input import with_pixel_input
from edgesem.errors import BundleError, EnvironmentMissing, UsageError

if TYPE_CHECKING:
    from edgesem.bundle.bundle import Bundle
    from edgesem.bundle.engine import TensorRtRunner

Precision = Literal["auto", "fp32", "int8"]
Runtime = Literal["auto", "cpu", "cuda", "ort-tensorrt", "tensorrt"]

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "ort-tensorrt": "TensorrtExecutionProvider",
}
_LARGE_BYTES = 1 << 18  # of a graph whose making leaves much behind; to give it back takes a millisecond
_BLOCK_BYTES = 64 << 20
_LEAST_SPLIT_BYTES = 1 << 16  # what a tensor leaves of a free piece is free too, from this size on
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 8 << 20  # of glibc's mallopt
_DOT_PRODUCT = ("avx512_vnni", "avx_vnni", "asimddp")  # a CPU with one of these multiplies bytes faster than floats


class OrtRunner:
    """ONNX Runtime, on the CPU or through a provider: "cpu", "cuda" or "ort-tensorrt".

    Raises BundleError when the file is no graph that this runtime can run, and EnvironmentMissing when the provider
    is not there: ONNX Runtime by itself would go on without a word on the CPU.
    """

    def __init__(
        self, path: Path, threads: int = 1, provider: str = "cpu", *, optimise: bool = True, pixels: bool = False
    ) -> None:
        """pixels: take the bytes of a picture where the graph can (`takes_pixels`), an int8 encoder's."""
        import onnxruntime as ort

        wanted = _PROVIDERS[provider]
        if wanted not in ort.get_available_providers():
            raise EnvironmentMissing(
                f"this ONNX Runtime has no {wanted}: install a build of it that has (onnxruntime-gpu), or use the CPU"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        if not optimise:  # every operator by itself, as the graph has it: to compare with
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a board has other work to do
        options.enable_mem_pattern = False  # it would keep one for each size of picture
        if provider == "cpu":
            _share_memory()
            _keep_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            graph = with_pixel_input(path) if pixels else None
            self._session = ort.InferenceSession(graph or str(path), options, providers=[wanted])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BundleError(f"{path}: ONNX Runtime {ort.__version__} cannot run this graph: {error}") from error
        if self._session.get_providers()[0] != wanted:
            raise EnvironmentMissing(
                f"{path}: ONNX Runtime would not start {wanted} and took {self._session.get_providers()[0]}: "
                "check the GPU's driver and libraries, or use the CPU"
            )
        if path.stat().st_size >= _LARGE_BYTES:
            give_back()
        self._names = [output.name for output in self._session.get_outputs()]
        self._path = path
        self.takes_pixels = graph is not None
        """Whether it takes pixels: see `edgesem.bundle.pixel_input.feed_of`."""

    def run(self, feed: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """See GraphRunner. BundleError when the graph does not take these inputs, or cannot be run with them."""
        try:
            found = self._session.run(self._names, dict(feed))
            return {name: np.asarray(array, np.float32) for name, array in zip(self._names, found, strict=True)}
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise BundleError(f"{self._path}: ONNX Runtime cannot run this graph: {error}") from error

    def close(self) -> None:
        """Free the graph; `run` must not be called any more."""
        del self._session


@dataclass(frozen=True)
class Choice:
    """Which file runs a part of a bundle, what runs it, and why."""

    graph: str
    runtime: str
    reason: str


def choose(bundle: Bundle, part: str, precision: Precision = "auto", runtime: Runtime = "auto") -> Choice:
    """What would run `part` ("encoder", "decoder", "context_00" ...) of a bundle on this machine, and why.

    Left to itself, a TensorRT engine that was built here for this graph comes first; then int8 where the CPU has
    instructions for it and the bundle has such a graph; then fp32. A runtime that is named is used, or is an error.
    With int8, parts that have no such form run in fp32; BundleError if no part has one.
    """
    plain, quantized = f"{part}.onnx", f"{part}.int8.onnx"
    if part.startswith("context"):
        return Choice(plain, "cpu", "the context model is integer arithmetic, exact on the CPU only")
    if precision not in ("auto", "fp32", "int8"):
        raise UsageError(f"precision must be auto, fp32 or int8, got {precision!r}")
    if runtime not in ("auto", "tensorrt", *_PROVIDERS):
        raise UsageError(f"runtime must be auto, cpu, cuda, ort-tensorrt or tensorrt, got {runtime!r}")
    suffix = ".int8.onnx" if runtime in ("auto", "cpu") else ".trt-int8.onnx"
    if precision == "int8" and not any(name.endswith(suffix) for name in bundle.files):
        raise BundleError(f"{bundle.folder} has no int8 form (*{suffix}): make one with edgesem quantize, or use fp32")
    lacks = precision == "int8" and part + suffix not in bundle.files
    note = f"; int8 was asked for, and the bundle has no {part}{suffix}" if lacks else ""
    if runtime in ("auto", "tensorrt"):
        from edgesem.bundle.engine import find_engine

        found = find_engine(bundle, part, "auto" if lacks else precision)
        if found.path is not None:
            return Choice(str(found.path), "tensorrt", found.reason + note)
        if runtime == "tensorrt":
            raise EnvironmentMissing(f"{part}: no TensorRT engine to run: {found.reason}")
        note += f"; no TensorRT: {found.reason}" if found.worth_saying else ""
    if runtime in ("cuda", "ort-tensorrt"):
        graph = part + suffix if precision == "int8" and not lacks else plain
        return Choice(graph, runtime, "asked for" + note)
    if precision == "fp32":
        return Choice(plain, "cpu", "fp32 was asked for" + note)
    if lacks:
        return Choice(plain, "cpu", "there is only fp32" + note)
    if quantized not in bundle.files:
        return Choice(plain, "cpu", f"the bundle has no {quantized}" + note)
    if precision == "int8":
        return Choice(quantized, "cpu", "int8 was asked for" + note)
    feature = dot_product()
    if feature is None:
        return Choice(plain, "cpu", "this CPU has no dot product of bytes, int8 may be slower or saturate" + note)
    return Choice(quantized, "cpu", f"this CPU has {feature}" + note)


def open_runner(
    bundle: Bundle,
    part: str,
    threads: int = 1,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    *,
    pixels: bool = False,
) -> OrtRunner | TensorRtRunner:
    """The runner that `choose` names, ready to run; `pixels` as of OrtRunner."""
    choice = choose(bundle, part, precision, runtime)
    if choice.runtime == "tensorrt":
        from edgesem.bundle.engine import TensorRtRunner

        return TensorRtRunner(Path(choice.graph))
    pixels = pixels and choice.runtime == "cpu"
    return OrtRunner(bundle.folder / choice.graph, threads, choice.runtime, pixels=pixels)


@lru_cache
def _share_memory() -> None:
    """Let all graphs of this process take turns with one block of memory.

    By itself each keeps a block of its own: a sender has 23 graphs. The block is large, and Linux gives a process only
    those pages of it that it writes to: what is free in one block is joined again, what is free in many small ones is
    not. Whoever has made such an arrangement for the process before us is left with it.
    """
    import onnxruntime as ort

    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    one_block = ort.OrtArenaCfg(0, 0, _BLOCK_BYTES, _LEAST_SPLIT_BYTES)  # no limit; another block, if this one is full
    with suppress(Exception):  # ONNX Runtime's errors have no common base
        ort.create_and_register_allocator(memory, one_block)


@lru_cache
def _keep_memory() -> None:
    """Let glibc keep what a frame frees for the next one, unless its settings are in the environment.

    By itself it returns large arrays to the system at once, and gets the same pages again, to be cleared, several times
    a frame.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")):
        return
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        for setting in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(setting, _KEPT_BYTES)


def give_back() -> None:
    """Return to the system what the making of graphs has left over, 10 MB for the decoder that ships (glibc only)."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


@lru_cache
def dot_product() -> str | None:
    """The CPU's instructions for dot products of bytes, by Linux's name for them; None where there are none known."""
    names = _DOT_PRODUCT[:2] if platform.machine() in ("x86_64", "AMD64") else _DOT_PRODUCT[2:]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return next((name for name in names if name in flags), None)
