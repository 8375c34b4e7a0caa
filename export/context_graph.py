"""From trained context models to their ONNX graphs, with the proof that they are exact.

Built node by node: a tracing exporter takes 20 s a graph, and writes more about the source code than weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edgesem.context import CHANNELS, GATE_STEPS, MEAN_GRID, VALUE_LIMIT, context_graph, reference_graph
from edgesem.tables import SCALES
from export.context_net import HIDDEN_LIMIT, LEVELS, ContextModel, IntConv, PassNet
from export.graph import OPSET, prove_exact
from export.reference_net import GATE_STEP, SCALE_STEP, ReferenceModel, ReferencePass

_IR_VERSION = 10
_PLANES = (("values", CHANNELS), ("level", 1), ("reference", CHANNELS), ("change", CHANNELS), ("reference_level", 1))


def export_context(model: ContextModel, folder: Path) -> None:
    """Write context_00.onnx, context_01.onnx, ...: one small graph a pass, so that a pass costs only its own work.

    Each: values float32 [1,96,h,w], level float32 [1,1,h,w] -> mean, scale, float32 [1,n,h,w].
    Raises ExportError unless every layer is proven exact.
    """
    for index, net in enumerate(model.nets):
        assert isinstance(net, PassNet)
        graph = _Graph(f"pass {index}", _PLANES[:2], net.outputs)
        graph.draw_key(net)
        onnx.save(graph.model(), folder / context_graph(index))


def export_reference(model: ReferenceModel, folder: Path) -> None:
    """Write context_ref_00.onnx, context_ref_01.onnx, ...: as `export_context`, for packets with a reference.

    Each: values, reference, change float32 [1,96,h,w], level, reference_level float32 [1,1,h,w] -> mean, scale.
    """
    for index, net in enumerate(model.nets):
        assert isinstance(net, ReferencePass)
        graph = _Graph(f"pass {index} with a reference", _PLANES, net.outputs)
        graph.draw_reference(net)
        onnx.save(graph.model(), folder / reference_graph(index))


class _Graph:
    """A graph that grows node by node; each method that adds one returns the name of its result."""

    def __init__(self, name: str, inputs: Sequence[tuple[str, int]], outputs: int) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._name, self._inputs, self._outputs = name, inputs, outputs

    def draw_key(self, net: PassNet) -> None:
        """All of a `PassNet`."""
        n, a = net.outputs, self._seen(net)
        steps = np.concatenate([np.full(n, 1 / MEAN_GRID), np.full(n, SCALE_STEP)])
        hidden_step = np.array(net.second.input_step)
        hidden = self._clip(self._layer(net.first, a, hidden_step), 0, HIDDEN_LIMIT)
        hidden = self._clip(self._layer(net.second, hidden, hidden_step), 0, HIDDEN_LIMIT)
        both = self._node("Add", self._layer(net.third, hidden, steps), self._layer(net.direct, a, steps))
        self._clip(self._slice(both, 0, n), -VALUE_LIMIT, VALUE_LIMIT, result="mean")
        self._clip(self._slice(both, n, 2 * n), 0, SCALES - 1, result="scale")

    def draw_reference(self, net: ReferencePass) -> None:
        """All of a `ReferencePass`."""
        n, a, limit = net.outputs, self._seen(net), VALUE_LIMIT if net.fine else HIDDEN_LIMIT
        own = self._slice("reference", net.start, net.stop)
        beside = [own]
        if net.changes:
            moved = self._slice("change", 0, net.changes)
            beside += [moved, self._node("Abs", moved)] if net.fine else [self._node("Abs", moved)]
        if not net.fine:
            small = self._floor(self._node("Concat", *beside, axis=1), np.array(0.5))
            beside = [self._clip(small, -limit, limit)]
        b = self._node("Concat", "reference_level", *beside, axis=1)
        mean, scale, gate = (np.full(n, step) for step in (1 / MEAN_GRID, SCALE_STEP, GATE_STEP))
        two, three = np.concatenate([mean, scale]), np.concatenate([mean, scale, gate])
        hidden_step = np.array(net.second.input_step)
        hidden = self._node(
            "Add", self._layer(net.first, a, hidden_step), self._layer(net.first_beside, b, hidden_step)
        )
        hidden = self._clip(self._layer(net.second, self._clip(hidden, 0, HIDDEN_LIMIT), hidden_step), 0, HIDDEN_LIMIT)
        all_three = self._node("Add", self._layer(net.third, hidden, three), self._layer(net.direct_beside, b, three))
        both = self._node("Add", self._slice(all_three, 0, 2 * n), self._layer(net.direct, a, two))
        spatial = self._clip(self._slice(both, 0, n), -VALUE_LIMIT, VALUE_LIMIT)
        opened = self._clip(self._slice(all_three, 2 * n, 3 * n), 0, GATE_STEPS)
        drawn = self._node("Mul", opened, self._node("Sub", own, spatial))
        self._node("Add", spatial, self._floor(drawn, np.array(1 / GATE_STEPS)), result="mean")
        self._clip(self._slice(both, n, 2 * n), 0, SCALES - 1, result="scale")

    def model(self) -> onnx.ModelProto:
        """The finished model."""

        def value(name: str, channels: int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "h", "w"])

        graph = helper.make_graph(
            self._nodes,
            "context",
            [value(name, channels) for name, channels in self._inputs],
            [value("mean", self._outputs), value("scale", self._outputs)],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _seen(self, net: PassNet | ReferencePass) -> str:
        """What the layers that key packets have see."""
        planes = ["level", self._node("Sub", self._constant(float(LEVELS)), "level")]
        if net.channels:
            known = self._slice("values", 0, net.channels)
            limit = VALUE_LIMIT if net.fine else HIDDEN_LIMIT
            planes.append(self._clip(known if net.fine else self._floor(known, np.array(0.5)), -limit, limit))
        return self._node("Concat", *planes, axis=1)

    def _layer(self, conv: IntConv, x: str, output_step: npt.NDArray[Any]) -> str:
        """floor((integer weights * integers + integer bias) * power of two), as `export.graph.IntegerLayer`."""
        with torch.no_grad():
            weight, bias, exponent = conv.integers()
        prove_exact(weight, bias, conv.input_limit, self._name)
        # Half the size, and exact for weights of at most 127. Bytes would be smaller, but TensorRT takes them for
        # quantized numbers and wants to know of what.
        small = self._constant(weight.numpy().astype(np.float16))
        total = self._node(
            "Conv",
            x,
            self._node("Cast", small, to=TensorProto.FLOAT),
            self._constant(bias.numpy()),
            pads=[conv.padding] * 4,
            dilations=[conv.dilation] * 2,
        )
        return self._floor(total, np.exp2(-exponent.numpy()) * conv.input_step / output_step)

    def _floor(self, x: str, factor: npt.NDArray[Any]) -> str:
        shape = (-1, 1, 1) if factor.ndim else ()
        return self._node("Floor", self._node("Mul", x, self._constant(factor.reshape(shape))))

    def _clip(self, x: str, low: float, high: float, result: str = "") -> str:
        return self._node("Clip", x, self._constant(float(low)), self._constant(float(high)), result=result)

    def _slice(self, x: str, start: int, stop: int) -> str:
        ends = (self._constant(np.array([number], np.int64)) for number in (start, stop, 1))
        return self._node("Slice", x, *ends)

    def _constant(self, value: float | npt.NDArray[Any]) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        same = (
            name for name, old in self._constants.items() if old.dtype == array.dtype and np.array_equal(old, array)
        )
        name = next(same, f"c{len(self._constants)}")
        self._constants[name] = array
        return name

    def _node(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        name = result or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name
