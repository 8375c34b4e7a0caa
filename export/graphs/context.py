"""Writers of the context model's ONNX graphs, each proven exact.

Built node by node: a tracing exporter takes 20 s a graph, and writes more about the source code than weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgesem.bundle.graph_runner import GraphRunner
from edgesem.codec.context import coarse
from edgesem.codec.latent import LEVELS
from edgesem.entropy.schedule import (
    COARSE_LIMIT,
    GATE_STEPS,
    HIDDEN_LIMIT,
    MEAN_GRID,
    PASSES,
    VALUE_LIMIT,
    Pass,
    context_graph,
    reference_graph,
    whole,
    within,
)
from edgesem.entropy.tables import SCALES
from export.graphs.proof import largest_sum
from export.graphs.targets import MAX_IR_VERSION, OPSET
from export.networks.context import SCALE_STEP, ContextModel, IntConv, PassNet
from export.networks.reference import GATE_STEP, ReferenceModel, ReferencePass


def export_context(model: ContextModel, folder: Path) -> None:
    """Write context_00.onnx, context_01.onnx, ...: one small graph a pass, so that a pass costs only its own work.

    What goes in and out stands with edgesem.codec.context.ContextModel; h and w are multiples of 4.
    Raises ExportError unless every graph is proven exact (export.graphs.proof).
    """
    for index, (sweep, net) in enumerate(zip(PASSES, model.nets, strict=True)):
        assert isinstance(net, PassNet)
        graph = _Graph(sweep)
        graph.draw_key(net)
        graph.save(folder / context_graph(index))


def export_reference(model: ReferenceModel, folder: Path) -> None:
    """Write context_ref_00.onnx, context_ref_01.onnx, ...: as `export_context`, for inter frames."""
    for index, (sweep, net) in enumerate(zip(PASSES, model.nets, strict=True)):
        assert isinstance(net, ReferencePass)
        graph = _Graph(sweep)
        graph.draw_reference(net)
        graph.save(folder / reference_graph(index))


def both_ways(
    index: int, net: nn.Module, runner: GraphRunner, feed: Mapping[str, npt.NDArray[np.float32]]
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Mean and scale of pass `index`, as its network and as its graph has them: float32 [n, positions] each.

    feed: what the network takes by name, planes [1,n,h,w] of any size.
    """
    with torch.no_grad():
        planes = net(*(torch.from_numpy(array) for array in feed.values()))
    feed = {**feed, "rest": LEVELS - feed["level"]}
    got = runner.run(_feed_of_graph(PASSES[index], {name: whole(array[0]) for name, array in feed.items()}))
    height, width = feed["level"].shape[2:]
    mask, inside = PASSES[index].mask(height, width), within(index, height, width)
    return [
        (plane[0].numpy()[:, mask], got[name].reshape(plane.shape[1], -1)[:, inside])
        for name, plane in zip(("mean", "scale"), planes, strict=True)
    ]


def _feed_of_graph(sweep: Pass, planes: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """What a pass's graph gets when its network gets these planes [n,h,w]; `rest` is 255 less the level."""
    fine, seen = sweep.group == 0, planes["values"][: sweep.seen]
    levels = planes["level"], planes["rest"]
    feed = {"values" if fine else "coarse": np.concatenate([*levels, seen if fine else coarse(seen)])}
    if "reference" in planes:
        feed |= {"own": planes["reference"][sweep.start : sweep.stop], "reference_level": planes["reference_level"]}
        if not fine:
            feed["moved"] = coarse(np.abs(planes["change"][: sweep.start]))
        elif sweep.seen:
            feed["change"] = planes["change"][: sweep.seen]
    return {name: array[None] for name, array in feed.items()}


class _Graph:
    """A graph that grows node by node; each method that adds one returns the name of its result."""

    def __init__(self, sweep: Pass) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._sweep, self._fine, self._outputs = sweep, sweep.group == 0, sweep.stop - sweep.start
        self._seen = "values" if self._fine else "coarse"
        self._inputs = {self._seen: 2 + sweep.seen}

    def draw_key(self, net: PassNet) -> None:
        """All of a `PassNet`."""
        n, a = self._outputs, self._seen
        steps = np.concatenate([np.full(n, 1 / MEAN_GRID), np.full(n, SCALE_STEP)])
        hidden_step = np.array(net.second.input_step)
        hidden = self._clip(self._sweep_layer(net.first, a, hidden_step), 0, HIDDEN_LIMIT)
        hidden = self._clip(self._layer(net.second, hidden, hidden_step), 0, HIDDEN_LIMIT)
        both = self._node("Add", self._layer(net.third, hidden, steps), self._sweep_layer(net.direct, a, steps))
        self._clip(self._slice(both, 0, n), -VALUE_LIMIT, VALUE_LIMIT, result="mean")
        self._clip(self._slice(both, n, 2 * n), 0, SCALES - 1, result="scale")

    def draw_reference(self, net: ReferencePass) -> None:
        """All of a `ReferencePass`."""
        n, a = self._outputs, self._seen
        own, b = self._here("own"), self._beside()
        beside = self._sweep_layer if self._fine else self._layer  # the latter has been given its positions only
        mean, scale, gate = (np.full(n, step) for step in (1 / MEAN_GRID, SCALE_STEP, GATE_STEP))
        two, three = np.concatenate([mean, scale]), np.concatenate([mean, scale, gate])
        hidden_step = np.array(net.second.input_step)
        first = self._sweep_layer(net.first, a, hidden_step)
        hidden = self._clip(self._node("Add", first, beside(net.first_beside, b, hidden_step)), 0, HIDDEN_LIMIT)
        hidden = self._clip(self._layer(net.second, hidden, hidden_step), 0, HIDDEN_LIMIT)
        all_three = self._node("Add", self._layer(net.third, hidden, three), beside(net.direct_beside, b, three))
        both = self._node("Add", self._slice(all_three, 0, 2 * n), self._sweep_layer(net.direct, a, two))
        spatial = self._clip(self._slice(both, 0, n), -VALUE_LIMIT, VALUE_LIMIT)
        opened = self._clip(self._slice(all_three, 2 * n, 3 * n), 0, GATE_STEPS)
        drawn = self._node("Mul", opened, self._node("Sub", own, spatial))
        self._node("Add", spatial, self._floor(drawn, np.array(1 / GATE_STEPS)), result="mean")
        self._clip(self._slice(both, n, 2 * n), 0, SCALES - 1, result="scale")

    def save(self, path: Path) -> None:
        """Write the finished model. Raises ExportError unless it is proven exact."""

        def value(name: str, channels: int, *sides: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, *sides])

        graph = helper.make_graph(
            self._nodes,
            "context",
            [value(name, channels, "h", "w") for name, channels in self._inputs.items()],
            [value(name, self._outputs, "a", "b") for name in ("mean", "scale")],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=MAX_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        largest_sum(path)

    def _beside(self) -> str:
        """What the layers beside those of keyframes see: all planes where they look around, else those here only."""
        self._inputs |= {"own": self._outputs, "reference_level": 1}
        if not self._fine:
            self._inputs["moved"] = self._sweep.start
            small = self._clip(self._floor(self._here("own"), np.array(0.5)), -COARSE_LIMIT, COARSE_LIMIT)
            return self._node("Concat", self._here("reference_level"), small, self._here("moved"), axis=1)
        planes = ["reference_level", "own"]
        if self._sweep.seen:
            self._inputs["change"] = self._sweep.seen
            planes += ["change", self._node("Abs", "change")]
        return self._node("Concat", *planes, axis=1)

    def _here(self, x: str) -> str:
        """Planes at the positions of this pass only, row by row: as many columns for each phase as it has in a row."""
        stride, end = self._sweep.stride, np.iinfo(np.int64).max
        axes, steps = self._constant(np.array([2, 3])), self._constant(np.array([stride, stride]))
        ends = self._constant(np.array([end, end]))
        parts = [
            self._node("Slice", x, self._constant(np.array(phase)), ends, axes, steps) for phase in self._sweep.phases
        ]
        return parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=3)

    def _sweep_layer(self, conv: IntConv, x: str, output_step: npt.NDArray[Any]) -> str:
        """A layer that sees whole planes, computed at the positions of this pass only."""
        if conv.weight.shape[-1] == 1:
            return self._layer(conv, self._here(x), output_step)
        stride, reach = self._sweep.stride, conv.padding
        pads = [[reach - row, reach - column, reach, reach] for row, column in self._sweep.phases]
        return self._layer(conv, x, output_step, [{"pads": one, "strides": [stride, stride]} for one in pads])

    def _layer(
        self, conv: IntConv, x: str, output_step: npt.NDArray[Any], places: Sequence[dict[str, Any]] = ({},)
    ) -> str:
        """floor((integer weights * integers + integer bias) * power of two).

        `places`: where it is computed, as attributes of a convolution; the results stand side by side.
        """
        with torch.no_grad():
            weight, bias, exponent = conv.integers()
        # Half the size, and exact for weights of at most 127. Bytes would be smaller, but TensorRT takes them for
        # quantized numbers and wants to know of what.
        small = self._constant(weight.numpy().astype(np.float16))
        inputs = x, self._node("Cast", small, to=TensorProto.FLOAT), self._constant(bias.numpy())
        factor = np.exp2(-exponent.numpy()) * conv.input_step / output_step
        parts = [self._node("Conv", *inputs, dilations=[conv.dilation] * 2, **place) for place in places]
        parts = [self._scaled(part, factor) for part in parts]
        return self._node("Floor", parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=3))

    def _floor(self, x: str, factor: npt.NDArray[Any]) -> str:
        return self._node("Floor", self._scaled(x, factor))

    def _scaled(self, x: str, factor: npt.NDArray[Any]) -> str:
        shape = (-1, 1, 1) if factor.ndim else ()
        return self._node("Mul", x, self._constant(factor.reshape(shape)))

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
