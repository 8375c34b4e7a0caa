"""Int8 graph of a network that was trained to bear rounding: its own ranges take the place of calibrated ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from edgesem.errors import ExportError
from export.graphs import edit as graph_edit
from export.graphs.cost import layer_macs
from export.quantization.quantize import CPU, prepare, quantize
from export.quantization.ranges import Ranges
from export.quantization.replacement_cost import Cost
from export.quantization.sensitivity import Quantized

BEFORE, AFTER = "before", "after"
"""Last parts of a range's name: of what a layer reads, and of what it makes."""

TRAINED = replace(CPU, carried=("Relu", "DepthToSpace"))  # sums stay in float: they are what all later layers build on


def quantize_trained(
    source: Path,
    target: Path,
    ranges: Mapping[str, tuple[float, float]],
    cost: Callable[[Path], Cost],
    target_percent: float,
) -> Quantized:
    """Write the int8 form of float graph `source`, and say what it costs.

    ranges: lowest and highest value by name: that of a convolution, as its weights are called, with `.before` and
    `.after`. Layers without stay in float. Raises ExportError for ranges of layers that the graph does not have.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        names = prepare(source, prepared)
        layers, tensors = tensor_ranges(onnx.load(prepared).graph, ranges)
        excluded = [name for name in names if name not in layers]
        quantize(prepared, target, tensors, TRAINED, excluded)
        macs = layer_macs(prepared)
    price = cost(target)
    trial = {"excluded": excluded, "percent": round(price.percent, 3)}
    share = sum(macs[name] for name in layers) / sum(macs.values())
    return Quantized(price, excluded, [], price.percent <= target_percent, share, [trial])


def tensor_ranges(graph: onnx.GraphProto, ranges: Mapping[str, tuple[float, float]]) -> tuple[set[str], Ranges]:
    """The layers of a graph that have ranges, and all ranges by the names of tensors.

    Raises ExportError for ranges of layers that it does not have.
    """
    from onnxruntime.quantization.calibrate import TensorData

    left = dict(ranges)
    found: dict[str, tuple[float, float]] = {}
    layers: set[str] = set()
    names = set(graph_edit.layers(graph, TRAINED.layers))
    for node in graph.node:
        layer = node.input[1].removesuffix(".weight") if node.name in names else ""
        if f"{layer}.{BEFORE}" in left and f"{layer}.{AFTER}" in left:
            layers.add(node.name)
            found[node.input[0]], found[node.output[0]] = left.pop(f"{layer}.{BEFORE}"), left.pop(f"{layer}.{AFTER}")
        elif node.op_type in TRAINED.carried and node.input[0] in found:  # values are moved, or cut off at 0
            found[node.output[0]] = found[node.input[0]]
    if left:
        raise ExportError(f"the graph has no layer for the range of {next(iter(left))}: was the network changed?")
    return layers, {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in found.items()
    }
