"""Other forms of a bundle's graphs: int8 for CPUs, int8 and fp16 for TensorRT, each measured in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.engine import FP16
from edgesem.bundle.graph_runner import Arrays, GraphRunner
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS
from edgesem.errors import UsageError
from edgesem.quality.metrics import Frame
from export.quantization.quantize import CPU, TENSORRT, Profile, to_half
from export.quantization.ranges import Feed
from export.quantization.replacement_cost import Cost, CostMeter
from export.quantization.sensitivity import Quantized, quantize_to_target

_PICTURES = 24  # to calibrate on
_EVALUATED = 16
_EVALUATION_SIDE = 256
_PAYS = 1.2  # an int8 decoder must be so much faster to be worth its loss; the encoder runs on the board
_LEAST_SHARE = 0.5  # of the multiply-adds in int8: what is left runs in fp32, and with more of that fp16 is faster
_RUNS = 7

Progress = Callable[[str, float], None]


def add_int8(
    bundle: Bundle, frames: Sequence[Frame], parts: Sequence[str], target_percent: float, progress: Progress
) -> dict[str, Any]:
    """Write the int8 forms of `parts` into a bundle's folder where they meet the target and pay; what came of each."""
    meter = CostMeter(bundle, evaluation_pieces(frames))
    found = {}
    for part in parts:
        path = bundle.folder / f"{part}{CPU.suffix}.onnx"
        result = quantize_part(bundle, part, path, frames, meter, target_percent=target_percent, progress=progress)
        times = speedup(bundle.folder / f"{part}.onnx", path, feeds(bundle, part, frames[:1])[0])
        kept = result.met and times >= (_PAYS if part == "decoder" else 1.0)
        found[part] = {"kept": kept, "speedup_here": round(times, 2), **result.report()}
        if not kept:
            path.unlink()
    return found


def add_tensorrt(bundle: Bundle, frames: Sequence[Frame], target_percent: float, progress: Progress) -> dict[str, Any]:
    """Write the forms for TensorRT into a bundle's folder: fp16 of all float parts, int8 of encoder and decoder."""
    found: dict[str, Any] = {}
    meter = CostMeter(bundle, evaluation_pieces(frames))
    for part in ("encoder", "decoder", "flow"):
        source = bundle.folder / f"{part}.onnx"
        if not source.exists():
            continue
        progress(f"fp16 {part}", 0.0)
        half = bundle.folder / f"{part}{FP16}"
        to_half(source, half)
        found[half.name] = {"size_bytes": half.stat().st_size}
        if part == "flow":
            continue
        found[half.name] |= meter.cost({part: OrtRunner(half)}).as_dict()
        path = bundle.folder / f"{part}{TENSORRT.suffix}.onnx"
        result = quantize_part(
            bundle, part, path, frames, meter, profile=TENSORRT, target_percent=target_percent, progress=progress
        )
        kept = result.met and result.integer_share >= _LEAST_SHARE
        found[path.name] = {"kept": kept, **result.report()}
        if not kept:
            path.unlink()
    return found


def quantize_part(
    bundle: Bundle,
    part: str,
    path: Path,
    frames: Sequence[Frame],
    meter: CostMeter,
    *,
    profile: Profile = CPU,
    target_percent: float = 2.0,
    backend: str = "ort",
    always_rank: bool = False,
    progress: Progress = lambda *_: None,
) -> Quantized:
    """Write the int8 form of one part of a bundle to `path`, measured in use on other pictures than it is made on."""

    def price(graph: Path) -> Cost:
        return meter.cost({part: OrtRunner(graph)})

    return quantize_to_target(
        bundle.folder / f"{part}.onnx",
        path,
        feeds(bundle, part, calibration_pictures(frames)),
        price,
        profile=profile,
        target_percent=target_percent,
        backend=backend,
        always_rank=always_rank,
        progress=lambda stage, done: progress(f"int8 {part}: {stage}", done),
    )


def feeds(bundle: Bundle, part: str, frames: Sequence[Frame]) -> list[Feed]:
    """What a part gets in use, on real pictures at qualities of all kinds. Raises UsageError for a part unknown."""
    codec = Codec(bundle, precision="fp32", runtime="cpu")
    found: list[Feed] = []
    for index, frame in enumerate(frames):
        height, width = (side // 16 * 16 for side in frame.shape[:2])
        if part == "encoder":
            planes = frame[:height, :width].transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
            found.append({"frame": np.ascontiguousarray(planes)})
        elif part == "decoder":
            level = (index * 97 + 13) % (LEVELS + 1)
            latent = codec.unpack(codec.pack(codec.analyze(frame), quality=level / LEVELS))
            quality = np.full((1, 1, 1, 1), level / LEVELS, np.float32)
            drawn = latent.values[None] * bundle.shrinkage[level][:, None, None]
            found.append({"latent": drawn, "quality": quality})
        elif part == "flow":
            recorder = _RecordingRunner(OrtRunner(bundle.folder / "flow.onnx"))
            codec.use("flow", recorder)
            packet = codec.pack(codec.analyze(frame), quality=(index * 97 + 13) % (LEVELS + 1) / LEVELS)
            codec.synthesize(codec.unpack(packet), steps=2, seed=index)
            found.append(recorder.feeds[index % 2])
        else:
            raise UsageError(f"encoder, decoder and flow can be quantized, not {part}")
    return found


class _RecordingRunner:
    """Graph runner that keeps its inputs."""

    def __init__(self, inner: GraphRunner) -> None:
        self._inner = inner
        self.feeds: list[Feed] = []

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        self.feeds.append(dict(feed))
        return self._inner.run(feed)


def calibration_pictures(frames: Sequence[Frame]) -> list[Frame]:
    """The pictures to calibrate on: every other one. Those between are for evaluation."""
    return _spread(frames[::2], _PICTURES)


def evaluation_pieces(frames: Sequence[Frame]) -> list[Frame]:
    """Pieces of the pictures that are not calibrated on, to measure with.

    From all over the folder: neighbours in it often come from one source, and 8 of them had said 0.4 % where others
    said 6 (smooth pictures show the noise of an int8 decoder that detailed ones hide).
    """
    chosen = _spread(frames[1::2] or frames, _EVALUATED)
    return [np.ascontiguousarray(frame[:_EVALUATION_SIDE, :_EVALUATION_SIDE]) for frame in chosen]


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` of the pictures, at even distances."""
    return [frames[i] for i in np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]


def speedup(plain: Path, quantized: Path, feed: Feed) -> float:
    """How many times faster the second graph runs than the first, one thread, in turns: median of CPU time."""
    runners = [OrtRunner(plain), OrtRunner(quantized)]
    clock = time.thread_time if hasattr(time, "thread_time") and os.name == "posix" else time.perf_counter
    seconds: list[list[float]] = [[], []]
    for _ in range(_RUNS):
        for runner, spent in zip(runners, seconds, strict=True):
            start = clock()
            runner.run(feed)
            spent.append(clock() - start)
    return float(np.median(seconds[0]) / np.median(seconds[1]))
