"""Sensitivity of layers to rounding, and the choice of those that must stay in float to meet a target."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.bundle.runner import OrtRunner
from export.graphs.cost import layer_macs
from export.quantization.quantize import CPU, Profile, calibrate, prepare, quantize, quantize_with_optimum
from export.quantization.ranges import Feed, Ranges
from export.quantization.replacement_cost import Cost

_PROBES = 3  # pictures that each layer is tried on alone

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Quantized:
    """An int8 graph and how it came about."""

    cost: Cost
    excluded: list[str]
    sensitivity: list[dict[str, Any]]
    """A row for each layer, the worst first: SNR of the graph's output with this layer alone in integers."""
    met: bool
    integer_share: float
    """Of the multiply-adds: those that are left in integers."""
    trials: list[dict[str, Any]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            **self.cost.as_dict(),
            "met": self.met,
            "integer_share": round(self.integer_share, 4),
            "excluded": self.excluded,
            "trials": self.trials,
            "sensitivity": self.sensitivity,
        }


def quantize_to_target(
    source: Path,
    target: Path,
    feeds: Sequence[Feed],
    cost: Callable[[Path], Cost],
    *,
    profile: Profile = CPU,
    target_percent: float = 2.0,
    backend: str = "ort",
    always_rank: bool = False,
    progress: Progress = lambda *_: None,
) -> Quantized:
    """Write the int8 form of `source`, with as few layers in float as keep its cost within `target_percent`.

    `cost` measures a graph in use (export.quantization.replacement_cost). Layers are given up in the order of their
    sensitivity, which is only measured when the plain form misses the target, or with `always_rank`, until the target
    is met or one layer is left. Then those that the target can bear after all are taken back, the largest first: what
    rounding does to an output is not all that it does in use. The graph with the least cost is kept if none meets it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared, candidate = Path(scratch) / "prepared.onnx", Path(scratch) / "candidate.onnx"
        names = prepare(source, prepared, profile)
        progress("calibrating", 0.0)
        ranges = calibrate(prepared, feeds)

        def make(exclude: Sequence[str]) -> Cost:
            if backend == "optimum":
                quantize_with_optimum(prepared, candidate, feeds, profile, exclude)
            else:
                quantize(prepared, candidate, ranges, profile, exclude)
            return cost(candidate)

        progress("measuring", 0.2)
        best = make([])
        excluded: list[str] = []
        data = candidate.read_bytes()
        trials = [{"excluded": [], "percent": round(best.percent, 3)}]
        table: list[dict[str, Any]] = []
        if always_rank or best.percent > target_percent:
            table = sensitivity(prepared, names, ranges, feeds[:_PROBES], profile, progress)
        macs = layer_macs(prepared)

        def attempt(without: list[str]) -> Cost:
            result = make(without)
            trials.append({"excluded": without, "percent": round(result.percent, 3)})
            return result

        for count in range(1, len(table)):
            if best.percent <= target_percent:
                break
            progress("giving up layers", count / len(table))
            worst = [row["layer"] for row in table[:count]]
            result = attempt(worst)
            if result.percent < best.percent:
                best, excluded, data = result, worst, candidate.read_bytes()
        for index, name in enumerate(sorted(excluded[:-1], key=lambda name: -macs[name])):
            if best.percent > target_percent:
                break
            progress("taking layers back", index / len(excluded))
            fewer = [other for other in excluded if other != name]
            result = attempt(fewer)
            if result.percent <= target_percent:
                best, excluded, data = result, fewer, candidate.read_bytes()
    target.write_bytes(data)
    share = sum(macs[name] for name in set(names) - set(excluded)) / sum(macs.values())
    return Quantized(best, excluded, table, best.percent <= target_percent, share, trials)


def sensitivity(
    prepared: Path,
    names: Sequence[str],
    ranges: Ranges,
    feeds: Sequence[Feed],
    profile: Profile,
    progress: Progress = lambda *_: None,
) -> list[dict[str, Any]]:
    """A row for each layer, the most sensitive first: what the output loses when this layer alone is rounded."""
    own = [OrtRunner(prepared).run(feed) for feed in feeds]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "one.onnx"
        for index, name in enumerate(names):
            progress("trying each layer", index / len(names))
            quantize(prepared, graph, ranges, profile, [other for other in names if other != name])
            runner = OrtRunner(graph)
            ratios = [snr_db(mine, runner.run(feed)) for mine, feed in zip(own, feeds, strict=True)]
            rows.append({"layer": name, "snr_db": round(float(np.mean(ratios)), 2)})
    return sorted(rows, key=lambda row: row["snr_db"])


def snr_db(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> float:
    """Signal to noise over all outputs, in dB; at most 150. The signal counts without its mean over each plane."""
    signal = noise = 0.0
    for name, array in wanted.items():
        centred = array - array.mean((-2, -1), keepdims=True) if array.ndim >= 2 else array
        signal += float((centred.astype(np.float64) ** 2).sum())
        noise += float(((got[name] - array).astype(np.float64) ** 2).sum())
    return 150.0 if noise <= signal * 1e-15 else float(10 * np.log10(max(signal, 1e-300) / noise))
