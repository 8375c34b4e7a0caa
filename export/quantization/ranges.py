"""Ranges of the values that a byte stands for: of all that a tensor has held, the part that is worth it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from edgesem.bundle.runner import OrtRunner

STEPS = 255  # between the lowest and the highest value of a byte
_SHARES = tuple(1.0 - 0.05 * place for place in range(16))  # of the whole range of a tensor, that may be taken
_SAMPLES = 8192  # values of a tensor and feed that its range is chosen for

Feed = dict[str, npt.NDArray[np.float32]]
Ranges = dict[str, Any]
Values = npt.NDArray[np.float32]


def rounded(values: Values, low: float, high: float) -> Values:
    """`values` as bytes hold them whose 0 and 255 stand for `low` <= 0 and `high` >= 0, moved so that one is 0.0."""
    step = max(high - low, 1e-12) / STEPS
    zero = np.rint(-low / step)
    return ((np.rint(values / step) + zero).clip(0, STEPS) - zero) * np.float32(step)


def best_range(values: Values, lowest: float, highest: float) -> tuple[float, float]:
    """The part of a range, each end by itself, whose rounding has the least squared error on `values`.

    What lies beyond is cut off: a few large values would make the steps of all others coarse.
    """

    def error(below: float, above: float) -> float:
        return float(np.square(rounded(values, lowest * below, highest * above) - values).mean())

    above = min(_SHARES, key=lambda share: error(1.0, share))
    below = min(_SHARES, key=lambda share: error(share, above))
    above = min(_SHARES, key=lambda share: error(below, share))
    return lowest * below, highest * above


def narrowed(graph: Path, ranges: Mapping[str, Any], feeds: Sequence[Feed]) -> Ranges:
    """Ranges of a graph's tensors, each cut down to what rounds them best over `feeds`; those of its inputs stay.

    ranges: ONNX Runtime's TensorData by the names of tensors, with the least and the greatest value of each.
    """
    from onnxruntime.quantization.calibrate import TensorData

    model = onnx.load(graph)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in ranges if name not in known)
    inner = sorted(set(ranges) - {value.name for value in model.graph.input})  # the same samples in each process
    seen: dict[str, list[Values]] = {name: [] for name in inner}
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "all_outputs.onnx"
        onnx.save(model, path)
        runner = OrtRunner(path)
        for feed in feeds:
            made = runner.run(feed)
            for name in inner:
                seen[name].append(random.choice(made[name].ravel(), min(_SAMPLES, made[name].size)))
    found = dict(ranges)
    for name in inner:
        lowest, highest = (float(np.ravel(end)[0]) for end in ranges[name].range_value)
        low, high = best_range(np.concatenate(seen[name]), min(0.0, lowest), max(0.0, highest))
        found[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))
    return found
