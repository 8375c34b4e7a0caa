"""Cost of a graph: multiply-adds a pixel, parameters, bytes. Counted on the exported graph, not on the network."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgesem.bundle.runner import OrtRunner
from edgesem.entropy.schedule import STRIDE

_COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_SIDE = 256  # pixels on a side that multiply-adds are counted for; a multiple of every stride


def cost(paths: Sequence[Path]) -> dict[str, Any]:
    """Multiply-adds a pixel, parameters and size of the graphs of a part together.

    An input with 3 channels is a picture, every other one stands at a 16th of its sides.
    """
    models = [onnx.load(path) for path in paths]
    weights = [tensor for model in models for tensor in model.graph.initializer if _is_weight(tensor)]
    return {
        "kmac_per_pixel": round(sum(macs for model in models for _, macs in _macs(model)) / _SIDE**2 / 1000, 3),
        "parameters": sum(math.prod(tensor.dims) for tensor in weights),
        "size_bytes": sum(path.stat().st_size for path in paths),
    }


def layer_macs(path: Path) -> dict[str, int]:
    """Multiply-adds of each named layer of a graph, for a picture of 256 pixels a side."""
    return {name: macs for name, macs in _macs(onnx.load(path)) if name}


def _macs(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """Multiply-adds of each layer for a picture of _SIDE pixels a side, from the shapes that really occur in a run."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    feed = {value.name: np.zeros(_shape(value), np.float32) for value in model.graph.input}
    shapes |= {name: array.shape for name, array in feed.items()}
    counted = [node for node in model.graph.node if node.op_type in _COUNTED]
    known = {value.name for value in model.graph.output} | set(shapes)
    wanted = {name for node in counted for name in (*node.input[:2], node.output[0])} - known
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in sorted(wanted))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shapes.onnx"
        onnx.save(model, path)
        shapes |= {name: array.shape for name, array in OrtRunner(path).run(feed).items()}
    return [(node.name, _node_macs(node, shapes)) for node in counted]


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    side = _SIDE if len(dims) == 4 and dims[1].dim_value == 3 else _SIDE // STRIDE
    return tuple(dim.dim_value or (1 if place == 0 else side) for place, dim in enumerate(dims))


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    source, weight, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":  # weight [out, in / groups, kernel]: each output value takes its row of it
        return math.prod(result) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight [in, out / groups, kernel]: each input value gives its row
        return math.prod(source) * math.prod(weight[1:])
    inner = source[0] if node.op_type == "Gemm" and _transposed(node) else source[-1]
    return math.prod(result) * inner


def _transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transA" and helper.get_attribute_value(a) for a in node.attribute)


def _is_weight(tensor: onnx.TensorProto) -> bool:
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8)
    return tensor.data_type in floats and len(tensor.dims) in (2, 4) and math.prod(tensor.dims) > 1
