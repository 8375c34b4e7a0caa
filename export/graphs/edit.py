"""Edits of an ONNX graph that keep its results: what quantization needs before and after it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgesem.errors import ExportError

LAYERS = ("Conv", "ConvTranspose", "MatMul")  # operators with weights
MOVES = ("Add", "DepthToSpace", "Identity", "Relu", "Reshape", "SpaceToDepth", "Transpose")
"""Operators that compute next to nothing."""
_SMALL = 4096  # numbers
_FINER = 254  # a second byte of a weight counts in steps so many times finer than the first
_PATCH = 8  # a convolution of the picture with so large patches and no overlap is computed as one matrix product


def layers(graph: onnx.GraphProto, operators: Collection[str] = LAYERS) -> list[str]:
    """Names of the nodes of these operators that have weights of their own, in order.

    Products with a small matrix do not count: they are made once a picture, of its quality, and cost nothing.
    """
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    found = [n for n in graph.node if n.op_type in operators and n.input[1] in sizes]
    return [n.name for n in found if n.op_type != "MatMul" or sizes[n.input[1]] >= _SMALL]


def finish(model: onnx.ModelProto, target: Path) -> None:
    """Sort, drop what nothing reads, check and write."""
    graph = model.graph
    sort_nodes(graph)
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    unused = [tensor for tensor in graph.initializer if tensor.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)
    del graph.value_info[:]
    domains = {"", "ai.onnx", *(node.domain for node in graph.node)}  # the first two are the same
    for entry in [entry for entry in model.opset_import if entry.domain not in domains]:
        model.opset_import.remove(entry)  # ONNX Runtime's tools name all that they know
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{target.name} is not a valid graph: {error}") from error
    target.write_bytes(model.SerializeToString())


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those that it reads from: converters leave casts at the end."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise ExportError(f"the graph has a cycle at {waiting[0].name}")
        ordered += ready
        known.update(name for node in ready for name in node.output)
        names = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in names]
    copies = []
    for node in ordered:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def fold_shift(graph: onnx.GraphProto) -> None:
    """conv(x - c) becomes conv(x) with another bias, wherever no padding stands in the way."""
    constants = _constants(graph)
    inputs = {value.name for value in graph.input}
    for node in list(graph.node):
        if node.op_type != "Sub" or node.input[0] not in inputs or node.input[1] not in constants:
            continue
        shift = numpy_helper.to_array(constants[node.input[1]])
        readers = [reader for reader in graph.node if node.output[0] in reader.input]
        if shift.size != 1 or not all(_is_unpadded(reader, constants) for reader in readers):
            continue
        for reader in readers:
            weight = numpy_helper.to_array(constants[reader.input[1]]).astype(np.float64)
            bias = numpy_helper.to_array(constants[reader.input[2]]) if len(reader.input) > 2 else 0.0
            folded = (bias - float(shift.item()) * weight.reshape(len(weight), -1).sum(1)).astype(np.float32)
            name = f"{reader.name}.shifted_bias"
            graph.initializer.append(numpy_helper.from_array(folded, name))
            del reader.input[2:]
            reader.input.append(name)
            reader.input[0] = node.input[0]
        graph.node.remove(node)


def _is_unpadded(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    known = all(name in constants for name in node.input[1:])
    return node.op_type == "Conv" and known and not any(_attribute(node, "pads", [0]))


def carried_nodes(graph: onnx.GraphProto, quantized: set[str], operators: Collection[str]) -> set[str]:
    """Nodes of `operators` that follow a quantized layer and do not lead straight to an output."""
    made_by = {name: node for node in graph.node for name in node.output}
    at_the_end: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.op_type in MOVES and node.name not in at_the_end:
            at_the_end.add(node.name)
            waiting += node.input
    carried: set[str] = set()
    for node in graph.node:
        if node.op_type not in operators or node.name in at_the_end:
            continue
        makers = [made_by.get(name) for name in node.input]
        if all(maker is not None and maker.name in quantized | carried for maker in makers):
            carried.add(node.name)
    return carried


def patch_transforms(graph: onnx.GraphProto, exclude: Collection[str]) -> list[str]:
    """Convolutions of the picture by large patches without overlap: the linear path of an encoder."""
    inputs = {value.name for value in graph.input}
    constants = _constants(graph)
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or node.name in exclude or node.input[0] not in inputs:
            continue
        kernel, strides = _attribute(node, "kernel_shape", []), _attribute(node, "strides", [])
        square = len(kernel) == 2 and kernel[0] == kernel[1] == strides[0] == strides[1] >= _PATCH
        if square and len(node.input) == 3 and _is_unpadded(node, constants) and _attribute(node, "group", 1) == 1:
            found.append(node.name)
    return found


def as_product(graph: onnx.GraphProto, name: str) -> None:
    """Compute a patch transform as a product of integer matrices with a float result.

    QDQ would round its result to 8 bits for all channels alike, which is coarser than the codec's own steps; left in
    float it takes a third of the whole encoder's time.
    """
    constants = _constants(graph)
    node = next(node for node in graph.node if node.name == name)
    weight = numpy_helper.to_array(constants[node.input[1]])
    bias = numpy_helper.to_array(constants[node.input[2]])
    outputs, inputs, side, _ = weight.shape
    scale = np.maximum(np.abs(weight).reshape(outputs, -1).max(1) / 127, 1e-12)
    exact = weight / scale[:, None, None, None]
    coarse = np.rint(exact)
    fine = np.rint((exact - coarse) * _FINER)  # what rounding lost, as a second byte: the picture's mean must not leak
    rows = np.concatenate([coarse, fine]).clip(-128, 127).astype(np.int8).transpose(1, 2, 3, 0).reshape(-1, 2 * outputs)
    scales = np.concatenate([scale, scale / _FINER]) / 255
    picture = graph.input[0].name
    values = {
        "step": np.float32(1 / 255),
        "zero": np.uint8(0),
        "weight": rows,
        "scale": scales.astype(np.float32),
        "bias": bias,
        "side": np.array([side], np.int64),
        "inputs": np.array([inputs], np.int64),
        "rows": np.array([-1, weight[0].size], np.int64),
        "result": np.array([1, outputs], np.int64),
    }
    for key, value in values.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{name}.{key}"))

    def make(op: str, sources: Sequence[str], result: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, list(sources), [result], name=f"{result}.node", **attributes)

    def at(key: str) -> str:
        return f"{name}.{key}"

    graph.node.remove(node)
    graph.node.extend(
        [
            make("QuantizeLinear", [picture, at("step"), at("zero")], at("pixels")),
            make("Shape", [picture], at("height"), start=2, end=3),
            make("Shape", [picture], at("width"), start=3, end=4),
            make("Div", [at("height"), at("side")], at("down")),
            make("Div", [at("width"), at("side")], at("across")),
            make("Concat", [at(k) for k in ("inputs", "down", "side", "across", "side")], at("split"), axis=0),
            make("Reshape", [at("pixels"), at("split")], at("blocks")),
            make("Transpose", [at("blocks")], at("grouped"), perm=[1, 3, 0, 2, 4]),
            make("Reshape", [at("grouped"), at("rows")], at("patches")),
            make("MatMulInteger", [at("patches"), at("weight"), at("zero")], at("sums")),
            make("Cast", [at("sums")], at("cast"), to=onnx.TensorProto.FLOAT),
            make("Mul", [at("cast"), at("scale")], at("scaled")),
            helper.make_node(
                "Split", [at("scaled")], [at("coarse"), at("fine")], name=at("halves"), axis=1, num_outputs=2
            ),
            make("Add", [at("coarse"), at("fine")], at("product")),
            make("Add", [at("product"), at("bias")], at("biased")),
            make("Transpose", [at("biased")], at("turned"), perm=[1, 0]),
            make("Concat", [at("result"), at("down"), at("across")], at("shape"), axis=0),
            make("Reshape", [at("turned"), at("shape")], node.output[0]),
        ]
    )
