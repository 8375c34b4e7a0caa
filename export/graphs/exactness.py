"""Exactness test: all ways to run the context model give the same symbols, on planes at its bounds and on packets."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import version_converter

from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.bundle.graph_runner import Arrays, GraphRunner
from edgesem.bundle.runner import OrtRunner
from edgesem.codec.codec import Codec
from edgesem.codec.latent import LEVELS, Latent
from edgesem.codec.options import PackOptions
from edgesem.entropy.kernel import load
from edgesem.entropy.schedule import CHANNELS, GROUPS, PERIOD, STRIDE
from edgesem.errors import BundleError, PacketError
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import NO_SIDE_INFO, Reference, Region, SideInformation
from edgesem.quality.metrics import Frame
from export.graphs.proof import INPUTS

_PLANES = 8
SMALLEST, LARGEST = 16, 96  # pixels on a side of a packet's picture: small ones, so that there can be many
_EVALUATED_EVERY = 50  # onnx's own evaluator takes a second for a packet
_OTHER_OPSET = 23

Progress = Callable[[str, float], None]


def context_graphs(bundle: Bundle) -> list[Path]:
    """The graphs of the context model, of inter frames too if there are any."""
    return [bundle.folder / name for name in (*KEY, *(REFERENCE if bundle.has_reference else ()))]


def planes_agree(bundle: Bundle) -> dict[str, Any]:
    """The context model gives the same bits with one thread and two, optimised or not, and in onnx's own evaluator.

    Its inputs are random, half of them as large as the proof allows. Raises BundleError when anything differs.
    """
    random = np.random.default_rng(7)
    values = 0
    for path in context_graphs(bundle):
        runners: dict[str, GraphRunner] = {
            "one thread": OrtRunner(path),
            "two threads": OrtRunner(path, 2),
            "plain": OrtRunner(path, optimise=False),
            "onnx's evaluator": _Evaluator(path),
        }
        for trial in range(_PLANES):
            feed = _random_feed(path, random, largest=trial % 2 == 1)
            first = runners["one thread"].run(feed)
            for name, runner in runners.items():
                if trial and name == "onnx's evaluator":
                    continue
                result = runner.run(feed)
                if not all(np.array_equal(first[key], result[key]) for key in first):
                    raise BundleError(f"{path.name}: {name} gives other symbols than one thread")
            values += sum(array.size for array in first.values())
    return {"values": values, "mismatches": 0, "runners": list(runners)}


def _random_feed(path: Path, random: np.random.Generator, *, largest: bool) -> Arrays:
    """Planes for a context graph: as large as the proof allows, or as in pictures."""
    height, width = PERIOD * random.integers(1, 7, 2)
    feed = {}
    for value in onnx.load(path).graph.input:
        low, high = (bound if largest else np.clip(bound, -40, 40) for bound in INPUTS[value.name])
        shape = (1, value.type.tensor_type.shape.dim[1].dim_value, height, width)
        feed[value.name] = random.integers(low, high + 1, shape).astype(np.float32)
    return feed


def packets_agree(
    bundle: Bundle, count: int, frames: Sequence[Frame] = (), progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """`count` small packets mean the same to every runner, whichever of them coded it.

    Half of the packets refer to the one before them, if the bundle can. Latents come from pieces of `frames` (at least
    96 pixels a side), through the encoder in fp32 and in int8, and from noise. Raises BundleError at a difference.
    """
    read: Counter[str] = Counter()
    made: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        codecs = _codecs(bundle, Path(scratch))
        evaluator = _codec_of(bundle, _Evaluator)
        before: dict[str, Latent] = {}
        for index, case in enumerate(_cases(bundle, count, frames)):
            progress(f"packets that all runners read alike: {index}", index / count)
            readers = dict(codecs)
            if index % _EVALUATED_EVERY < 2:  # a packet and the one that refers to it
                readers["onnx's evaluator"] = evaluator
            coder = list(codecs)[index % len(codecs)]
            packet, known = codecs[coder].pack_decoded(
                case.latent,
                quality=case.level / LEVELS,
                options=PackOptions(
                    layers=case.layers,
                    frame=index,
                    side_info=case.side_info,
                    reference=before[coder] if case.side_info.reference else None,
                ),
            )
            made[case.source] += 1
            data = packet.to_bytes()
            for name, codec in readers.items():
                where = f"packet {index}, {case}, coded with {coder}"
                try:
                    before[name] = codec.unpack(
                        Packet.from_bytes(data), before[name] if case.side_info.reference else None
                    )
                except PacketError as error:
                    raise BundleError(f"{where}: to {name} it is none ({error})") from error
                if not np.array_equal(before[name].values, known.values):
                    raise BundleError(f"{where}: it means something else to {name}")
                read[name] += 1
    return {"packets": count, "mismatches": 0, "made_from": dict(made), "read_by": dict(read)}


@dataclass(frozen=True)
class _Case:
    """One packet to be made."""

    source: str
    latent: Latent
    level: int
    layers: int
    side_info: SideInformation

    def __str__(self) -> str:
        size = f"{self.latent.width}x{self.latent.height}"
        refers = ", referring to the one before" if self.side_info.reference else ""
        return f"{size} of {self.source}, quality {self.level}, {self.layers} layers{refers}"


def _cases(bundle: Bundle, count: int, frames: Sequence[Frame]) -> Iterator[_Case]:
    """Sizes, qualities, numbers of layers, regions and references of all kinds, the same ones every time."""
    random = np.random.default_rng(1)
    encoders = {"fp32": Codec(bundle, precision="fp32", runtime="cpu")} if frames else {}
    if frames and "encoder.int8.onnx" in bundle.files:
        encoders["int8"] = Codec(bundle, precision="int8", runtime="cpu")
    sources = [*(f"pictures, {name}" for name in encoders), "noise"]
    for index in range(0, count, 2 if bundle.has_reference else 1):
        source = sources[(index // 2) % len(sources)]
        level, layers = int(random.integers(0, LEVELS + 1)), int(random.integers(1, len(GROUPS) + 1))
        height, width = (int(side) for side in random.integers(SMALLEST, LARGEST + 1, 2))
        rows, columns = -(-height // STRIDE), -(-width // STRIDE)
        if source == "noise":
            latent = Latent(_noise(bundle, random, (CHANNELS, rows, columns), level), width, height)
        else:
            piece = _piece(random, frames[int(random.integers(len(frames)))], height, width)
            latent = encoders[source.rpartition(" ")[2]].analyze(piece)
        corner = Region(0, 0, (columns - 1) // 2, (rows - 1) // 2, 1 + level % 90)
        yield _Case(source, latent, level, layers, SideInformation(region=corner) if index % 8 == 0 else NO_SIDE_INFO)
        if bundle.has_reference and index + 1 < count:
            changed = (random.random((rows, columns)) < random.random()).astype(np.float32)
            values = latent.values + changed * _noise(bundle, random, latent.values.shape, level)
            latent = Latent(values, width, height)
            level = int(random.integers(0, LEVELS + 1))
            yield _Case(source, latent, level, 1 + index % 4, SideInformation(reference=Reference(index, layers)))


def _piece(random: np.random.Generator, frame: Frame, height: int, width: int) -> Frame:
    top, left = (int(random.integers(0, s - p + 1)) for s, p in zip(frame.shape, (height, width), strict=False))
    return np.ascontiguousarray(frame[top : top + height, left : left + width])


def _noise(bundle: Bundle, random: np.random.Generator, shape: tuple[int, ...], level: int) -> npt.NDArray[np.float32]:
    """Float32 [96, h, w] of no picture: from a tenth of a quantizer step to more than the codec can hold."""
    steps = random.standard_normal(shape) * 10 ** random.uniform(-1, 2.5)
    return (steps / bundle.gain[level][:, None, None]).astype(np.float32)


def _codecs(bundle: Bundle, scratch: Path) -> dict[str, Codec]:
    """Codecs of one bundle that run its context model in all ways that this machine has."""

    def other_opset(path: Path) -> GraphRunner:
        converted = scratch / path.name
        onnx.save(version_converter.convert_version(onnx.load(path), _OTHER_OPSET), converted)
        return OrtRunner(converted)

    threads = max(2, os.cpu_count() or 1)
    ways: Mapping[str, Callable[[Path], GraphRunner]] = {
        "one thread": OrtRunner,
        f"{threads} threads": lambda path: OrtRunner(path, threads),
        "plain": lambda path: OrtRunner(path, optimise=False),
        f"opset {_OTHER_OPSET}": other_opset,
    }
    compiled = {"compiled kernel": Codec(bundle, precision="fp32", runtime="cpu")} if load() is not None else {}
    return {name: _codec_of(bundle, way) for name, way in ways.items()} | compiled


def _codec_of(bundle: Bundle, way: Callable[[Path], GraphRunner]) -> Codec:
    codec = Codec(bundle, precision="fp32", runtime="cpu")
    for path in context_graphs(bundle):
        codec.use(path.stem, way(path))
    return codec


class _Evaluator:
    """onnx's own evaluator, in numpy, with the interface of every runner."""

    def __init__(self, path: Path) -> None:
        from onnx.reference import ReferenceEvaluator

        self._inner = ReferenceEvaluator(str(path))

    def run(self, feed: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        return dict(zip(self._inner.output_names, self._inner.run(None, dict(feed)), strict=True))
