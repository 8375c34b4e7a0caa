"""Proof that a context graph is exact: the largest partial sum of each of its layers, from the ONNX file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import COARSE_LIMIT, EXACT, VALUE_LIMIT
from edgesem.errors import ExportError

INPUTS = {  # the lowest and the highest that goes into a graph: see edgesem.codec.context.ContextModel
    "values": (-VALUE_LIMIT, VALUE_LIMIT),
    "coarse": (-COARSE_LIMIT, COARSE_LIMIT),
    "own": (-VALUE_LIMIT, VALUE_LIMIT),
    "change": (-VALUE_LIMIT, VALUE_LIMIT),
    "moved": (0, COARSE_LIMIT),
    "reference_level": (0, LEVELS),
}

Numbers = npt.NDArray[np.float64]
Range = tuple[Numbers, Numbers]  # lowest and highest value of each channel, or of all alike


def largest_sum(path: Path) -> int:
    """The largest magnitude that any sum in a context graph can reach, whatever is decoded.

    Every value is followed as an interval of integers. Raises ExportError where a weight, a bias or a result may be no
    integer, where the bound of 2^24 may be passed, or at an operator that this proof does not know.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    known: dict[str, Range] = {name: (np.array(float(a)), np.array(float(b))) for name, (a, b) in INPUTS.items()}
    known |= {name: (value, value) for name, value in constants.items()}
    exact = set(INPUTS) | {name for name, value in constants.items() if _whole(value)}
    worst = 0.0
    for node in graph.node:
        where = f"{path.name}, {node.op_type} {node.name}"
        inputs = [known[name] for name in node.input if name]
        whole = all(name in exact for name in node.input if name)
        if node.op_type == "Conv":
            if not whole:
                raise ExportError(f"{where}: weights, bias or inputs are not integers")
            weight = constants[node.input[1]]
            bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight))
            limit = np.broadcast_to(np.maximum(np.abs(inputs[0][0]), np.abs(inputs[0][1])), weight.shape[1:2])
            reach = np.einsum("oikl,i->o", np.abs(weight), limit) + np.abs(bias)
            worst = max(worst, float(reach.max()))
            result: Range = (-reach, reach)
        else:
            result, whole = _follow(node, inputs, whole, constants, where)
            worst = max(worst, float(np.abs(result[0]).max()), float(np.abs(result[1]).max())) if whole else worst
        if worst >= EXACT:
            raise ExportError(f"{where}: a sum may reach {worst:.0f}, which is not below 2^24 = {EXACT}")
        for name in node.output:
            known[name] = result
            if whole:
                exact.add(name)
    strange = [output.name for output in graph.output if output.name not in exact]
    if strange:
        raise ExportError(f"{path.name}: {', '.join(strange)} may be no integers")
    return int(worst)


def _follow(
    node: onnx.NodeProto, inputs: list[Range], whole: bool, constants: dict[str, Numbers], where: str
) -> tuple[Range, bool]:
    """The interval of a node's result, and whether it is of integers."""
    low, high = inputs[0] if inputs else (np.array(0.0), np.array(0.0))
    if node.op_type in ("Add", "Sub") and not whole:
        raise ExportError(f"{where}: only sums of integers are exact")
    match node.op_type:
        case "Add":
            return (_plus(low, inputs[1][0]), _plus(high, inputs[1][1])), whole
        case "Sub":
            return (_plus(low, -inputs[1][1]), _plus(high, -inputs[1][0])), whole
        case "Mul" if whole and not any(name in constants for name in node.input):  # integers times integers
            corners = [_flat(a) * _flat(b) for a in inputs[0] for b in inputs[1]]
            return (np.minimum.reduce(corners), np.maximum.reduce(corners)), True
        case "Abs":
            return (np.zeros_like(low), np.maximum(np.abs(low), np.abs(high))), whole
        case "Mul":
            factor = _flat(next((constants[name] for name in node.input if name in constants), np.array(np.nan)))
            other = next((pair for name, pair in zip(node.input, inputs, strict=True) if name not in constants), None)
            if other is None or not (np.log2(np.abs(factor)) % 1 == 0).all():
                raise ExportError(f"{where}: only a constant power of two keeps a product exact")
            ends = _flat(other[0]) * factor, _flat(other[1]) * factor
            return (np.minimum(*ends), np.maximum(*ends)), whole and _whole(factor)
        case "Floor":
            return (np.floor(low), np.floor(high)), True  # of an integer times a power of two: exact in float32
        case "Clip":
            below, above = float(inputs[1][0]), float(inputs[2][0])
            return (np.clip(low, below, above), np.clip(high, below, above)), whole
        case "Relu":
            return (np.maximum(low, 0), np.maximum(high, 0)), whole
        case "Identity" | "Constant" | "Slice" | "Split" | "Gather" | "Cast" | "Reshape" | "Expand":
            if node.op_type == "Constant":
                value = numpy_helper.to_array(_value(node)).astype(np.float64)
                constants[node.output[0]] = value
                return (value, value), _whole(value)
            if node.op_type == "Cast" and node.input[0] in constants:  # weights stored as bytes
                constants[node.output[0]] = constants[node.input[0]]
            return (np.array(low.min()), np.array(high.max())), node.input[0] != "" and whole
        case "Concat":
            return (np.array(min(a.min() for a, _ in inputs)), np.array(max(b.max() for _, b in inputs))), whole
    raise ExportError(f"{where}: the proof does not know this operator")


def _plus(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(_flat(a) + _flat(b))


def _flat(value: Numbers) -> Numbers:
    """Per-channel values as one axis, [n], whatever axes of one element they came with."""
    return np.asarray(value).reshape(-1) if np.asarray(value).size > 1 else np.asarray(value).reshape(())


def _whole(value: Numbers) -> bool:
    return bool((value == np.round(value)).all())


def _value(node: onnx.NodeProto) -> Any:
    return next(helper.get_attribute_value(a) for a in node.attribute if a.name == "value")
