"""Form of a context network: its layers as integers, from the graph of a pass that has the form that is known.

    key        hidden = clip(second(clip(first(seen)))), mean and scale = clip(third(hidden) + direct(seen))
    reference  the same with first_beside(beside) and direct_beside(beside) added, and a gate of three outputs a symbol

All that a graph does is compared, so that what is taken from it computes what the graph does. Any other graph is left
to ONNX Runtime, and so is one whose sums may reach 2^24.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.bundle.graph_file import GraphFile, Node
from edgesem.entropy.schedule import COARSE_LIMIT, EXACT, GATE_STEPS, HIDDEN_LIMIT, VALUE_LIMIT, Pass
from edgesem.entropy.tables import SCALES

_MOST_HIDDEN = 256  # that the compiled kernel has room for
_END = int(np.iinfo(np.int64).max)

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]


class OtherForm(Exception):
    """A graph does something else than what is known."""


@dataclass(frozen=True)
class Layer:
    """floor((weight * inputs + bias) / 2^shift). weight [outputs, inputs, k, k], below 2^15; bias, shift [outputs]."""

    weight: Integers
    bias: Integers
    shift: Integers
    dilation: int = 1


@dataclass(frozen=True)
class Form:
    """The layers of a pass. Those beside are there with a reference only."""

    first: Layer
    second: Layer
    third: Layer
    direct: Layer
    first_beside: Layer | None = None
    direct_beside: Layer | None = None


def form_of(graph: GraphFile, sweep: Pass) -> Form:
    """The layers of a pass's graph. Raises OtherForm."""
    return _Match(graph, sweep).form()


class _Match:
    """Follows a graph from its results back to its inputs. Each method takes the name of a result, and raises OtherForm
    unless it is computed as expected."""

    def __init__(self, graph: GraphFile, sweep: Pass) -> None:
        self._graph, self._sweep, self._fine = graph, sweep, sweep.group == 0
        self._seen = "values" if self._fine else "coarse"
        self._limit = VALUE_LIMIT if self._fine else COARSE_LIMIT

    def form(self) -> Form:
        """All of it."""
        key = self._node("mean").kind == "Clip"
        form = self._key(self._clipped("mean", -VALUE_LIMIT, VALUE_LIMIT)) if key else self._with_reference()
        hidden = [form.first, form.second]
        self._expect(all(layer.bias.size <= _MOST_HIDDEN for layer in hidden))
        seen = [form.second.weight.shape[1], form.third.weight.shape[1]]
        self._expect(seen == [layer.bias.size for layer in hidden])
        self._expect(form.first_beside is None or form.first_beside.bias.size == form.first.bias.size)
        return form

    def _key(self, mean: str) -> Form:
        n = self._sweep.stop - self._sweep.start
        both = self._part(mean, 0, n)
        self._same(both, self._part(self._clipped("scale", 0, SCALES - 1), n, 2 * n))
        drawn, straight = self._inputs(both, "Add", 2)
        third, hidden = self._layer(drawn, 2 * n, HIDDEN_LIMIT)
        second, hidden = self._layer(self._clipped(hidden, 0, HIDDEN_LIMIT), None, HIDDEN_LIMIT)
        first = self._sweep_layer(self._clipped(hidden, 0, HIDDEN_LIMIT))
        return Form(first, second, third, self._sweep_layer(straight, 2 * n))

    def _with_reference(self) -> Form:
        n = self._sweep.stop - self._sweep.start
        spatial, off = self._inputs("mean", "Add", 2)
        opened, distance = self._inputs(self._floored(off, 1 / GATE_STEPS), "Mul", 2)
        own, again = self._inputs(distance, "Sub", 2)
        self._same(spatial, again)
        self._same(self._here(own), "own")
        both = self._part(self._clipped(spatial, -VALUE_LIMIT, VALUE_LIMIT), 0, n)
        self._same(both, self._part(self._clipped("scale", 0, SCALES - 1), n, 2 * n))
        drawn, straight = self._inputs(both, "Add", 2)
        three = self._part(drawn, 0, 2 * n)
        self._same(three, self._part(self._clipped(opened, 0, GATE_STEPS), 2 * n, 3 * n))
        drawn, aside = self._inputs(three, "Add", 2)
        third, hidden = self._layer(drawn, 3 * n, HIDDEN_LIMIT)
        second, hidden = self._layer(self._clipped(hidden, 0, HIDDEN_LIMIT), None, HIDDEN_LIMIT)
        seen, beside = self._inputs(self._clipped(hidden, 0, HIDDEN_LIMIT), "Add", 2)
        direct_beside, first_beside = self._beside(aside, 3 * n), self._beside(beside)
        return Form(
            self._sweep_layer(seen), second, third, self._sweep_layer(straight, 2 * n), first_beside, direct_beside
        )

    def _beside(self, result: str, outputs: int | None = None) -> Layer:
        """A layer that sees the reference and how it has changed."""
        sweep, own = self._sweep, self._sweep.stop - self._sweep.start
        layer, source = self._layer(result, outputs, self._limit, whole=self._fine)
        parts = self._inputs(source, "Concat", None, axis=1)
        if self._fine:
            expected = ["reference_level", "own", *(["change"] if sweep.seen else [])]
            if sweep.seen:
                self._same(self._inputs(parts[-1], "Abs", 1)[0], "change")
            channels = 1 + own + 2 * sweep.seen
            names = parts[: len(expected)]
            count = 4 if sweep.seen else 2
        else:
            expected, channels, count = ["reference_level", "own", "moved"], 1 + own + sweep.start, 3
            parts[1:2] = [self._floored(self._clipped(part, -COARSE_LIMIT, COARSE_LIMIT), 0.5) for part in parts[1:2]]
            names = [self._here(part) for part in parts]
        self._expect(names == expected and len(parts) == count and layer.weight.shape[1] == channels)
        return layer

    def _sweep_layer(self, result: str, outputs: int | None = None) -> Layer:
        """A layer that sees what is known."""
        layer, source = self._layer(result, outputs, self._limit, whole=True)
        if layer.weight.shape[-1] == 1:
            source = self._here(source)
        self._same(source, self._seen)
        self._expect(layer.weight.shape[1] == 2 + self._sweep.seen)
        return layer

    def _layer(self, result: str, outputs: int | None, limit: int, *, whole: bool = False) -> tuple[Layer, str]:
        """A layer, and what it sees. whole: it sees whole planes, and is computed at this pass's positions only, if it
        has more than one tap."""
        (total,) = self._inputs(result, "Floor", 1)
        scaled = self._inputs(total, "Concat", None, axis=3) if self._node(total).kind == "Concat" else [total]
        found = [self._inputs(part, "Mul", 2) for part in scaled]
        convs = [self._node(conv) for conv, _ in found]
        conv, factor = convs[0], found[0][1]
        self._expect(all(one.kind == "Conv" and one.inputs == conv.inputs for one in convs) and len(conv.inputs) == 3)
        self._expect(all(other == factor for _, other in found))
        weight = np.asarray(self._constant(self._inputs(conv.inputs[1], "Cast", 1, to=1)[0]), np.float64)
        bias = np.asarray(self._constant(conv.inputs[2]), np.float64)
        power = np.asarray(self._constant(factor), np.float64)
        self._expect(weight.ndim == 4 and 1 <= weight.shape[2] == weight.shape[3] <= 5 and weight.shape[2] % 2 == 1)
        self._expect(weight.size > 0 and bias.shape == weight.shape[:1] and outputs in (None, bias.size))
        self._expect(power.shape == (bias.size, 1, 1))  # any other would be broadcast otherwise
        dilation = next(iter(conv.attributes.get("dilations", ())), 0)
        self._expect(dilation in (1, 2))
        plain: dict[str, tuple[int, ...]] = {"dilations": (dilation, dilation)}
        if weight.shape[2] == 1:
            self._expect(len(convs) == 1 and conv.attributes == plain)
        else:
            stride, reach = self._sweep.stride, dilation * (weight.shape[2] // 2)
            places = [
                plain | {"strides": (stride, stride), "pads": (reach - row, reach - column, reach, reach)}
                for row, column in self._sweep.phases
            ]
            self._expect(whole and [one.attributes for one in convs] == places)
        return _exact(weight, bias, power.ravel(), dilation, limit), conv.inputs[0]

    def _here(self, result: str) -> str:
        """The planes of which `result` is this pass's positions, row by row."""
        node = self._node(result)
        parts = list(node.inputs) if node.kind == "Concat" else [result]
        if len(parts) > 1:
            self._inputs(result, "Concat", len(parts), axis=3)
        self._expect(len(parts) == len(self._sweep.phases))
        sources = set()
        for part, phase in zip(parts, self._sweep.phases, strict=True):
            source, *cut = self._inputs(part, "Slice", 5)
            stride = [self._sweep.stride] * 2
            self._expect([self._constant(name).tolist() for name in cut] == [[*phase], [_END] * 2, [2, 3], stride])
            sources.add(source)
        self._expect(len(sources) == 1)
        return sources.pop()

    def _part(self, result: str, start: int, stop: int) -> str:
        """The planes of which `result` is the channels `start` to `stop`."""
        source, *cut = self._inputs(result, "Slice", 4)
        self._expect([self._constant(name).tolist() for name in cut] == [[start], [stop], [1]])
        return source

    def _clipped(self, result: str, low: int, high: int) -> str:
        """What is limited to `low` to `high`."""
        source, *limits = self._inputs(result, "Clip", 3)
        self._expect([self._constant(name).tolist() for name in limits] == [low, high])
        return source

    def _floored(self, result: str, factor: float) -> str:
        """What is multiplied by `factor` and rounded down."""
        source, power = self._inputs(self._inputs(result, "Floor", 1)[0], "Mul", 2)
        self._expect(self._constant(power).tolist() == factor)
        return source

    def _inputs(self, result: str, kind: str, count: int | None, **attributes: int) -> list[str]:
        """The inputs of an operator of this kind; with so many, and these attributes and no others."""
        node = self._node(result)
        self._expect(node.kind == kind and count in (None, len(node.inputs)) and node.outputs == (result,))
        self._expect(len(node.inputs) > 0)
        self._expect(node.attributes == {name: (value,) for name, value in attributes.items()})
        return list(node.inputs)

    def _node(self, result: str) -> Node:
        self._expect(result in self._graph.nodes)
        return self._graph.nodes[result]

    def _constant(self, name: str) -> npt.NDArray[Any]:
        self._expect(name in self._graph.constants)
        return self._graph.constants[name]

    def _same(self, one: str, other: str) -> None:
        self._expect(one == other)

    @staticmethod
    def _expect(holds: bool) -> None:
        if not holds:
            raise OtherForm


def _exact(weight: Numbers, bias: Numbers, power: Numbers, dilation: int, limit: int) -> Layer:
    """floor((weight * inputs + bias) * power) as integers, for inputs up to `limit`. Raises OtherForm if it is not
    exact, whatever goes in."""
    if not all(np.isfinite(numbers).all() for numbers in (weight, bias, power)):
        raise OtherForm
    shift = -np.log2(np.maximum(power, 1e-12))
    whole = all((numbers == np.rint(numbers)).all() for numbers in (weight, bias, shift))
    reach = np.abs(weight).sum((1, 2, 3)) * limit + np.abs(bias)
    small = np.abs(weight).max() < 1 << 15 and reach.max() < EXACT and shift.min() >= 0 and shift.max() <= 30
    if not (whole and small and (power > 0).all()):
        raise OtherForm
    return Layer(weight.astype(np.int64), bias.astype(np.int64), shift.astype(np.int64), dilation)
