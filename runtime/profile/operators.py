"""Operator profile of the networks: time and multiplications of each node, as ONNX Runtime ran it."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.bundle.bundle import FLOW, REQUIRED
from edgesem.bundle.graph_runner import Arrays, GraphRunner
from edgesem.bundle.runner import Precision, Runtime, choose, open_runner
from edgesem.codec.codec import Codec

_RUNS = 6
_WARM = 2
Feed = Mapping[str, NDArray[np.float32]]


def trace(graph: Path, feed: Feed, threads: int, *, optimize: bool = True) -> list[dict[str, Any]]:
    """One line per node of a graph as ONNX Runtime ran it: `op`, `name`, mean `seconds`, `macs`, `kind`.

    Without `optimize` the graph runs as it was exported, so that MACs are those of the network and not of the padding
    that some kernels add.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    runs = _RUNS if optimize else 1
    with tempfile.TemporaryDirectory(prefix="edgesem-operators-") as folder:
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return _nodes(events, min(_WARM, runs - 1), runs)


def _nodes(events: list[dict[str, Any]], warm: int, runs: int) -> list[dict[str, Any]]:
    by_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            by_node[event["name"]].append(event)
    lines = []
    for name, seen in by_node.items():
        kept = seen[warm:] if len(seen) == runs else seen
        kind, macs = _cost(kept[-1]["args"])
        lines.append(
            {
                "op": kept[-1]["args"]["op_name"],
                "name": name.removesuffix("_kernel_time"),
                "seconds": sum(event["dur"] for event in kept) / len(kept) / 1e6,
                "macs": macs,
                "kind": kind,
            }
        )
    return sorted(lines, key=lambda line: -line["seconds"])


def _cost(args: Mapping[str, Any]) -> tuple[str, int]:
    """Kind and multiplications of a node: `dense` (kernel above 1x1), `separable` (1x1 and depthwise) or `other`."""
    inputs = [shape for entry in args["input_type_shape"] for shape in entry.values()]
    outputs = [shape for entry in args["output_type_shape"] for shape in entry.values()]
    op = args["op_name"]
    if op in ("Conv", "FusedConv", "QLinearConv", "ConvInteger"):
        kernels = [shape for shape in inputs[1:] if len(shape) == 4 and shape != outputs[0]]  # not the fused residual
        if not kernels:
            return "other", 0
        weights = kernels[0]
        separable = weights[1] == 1 or math.prod(weights[2:]) == 1
        return ("separable" if separable else "dense"), math.prod(outputs[0]) * math.prod(weights[1:])
    if op == "ConvTranspose":
        # Prepacked weights are not listed; ours do not overlap, so each output is made from one position.
        taps = math.prod(inputs[1][1:]) * math.prod(inputs[0]) if len(inputs) > 1 and len(inputs[1]) == 4 else 0
        return "dense", taps or inputs[0][1] * math.prod(outputs[0])
    if op in ("MatMul", "Gemm", "QLinearMatMul", "MatMulInteger"):
        return "separable", math.prod(outputs[0]) * inputs[0][-1]
    return "other", 0


def feeds(
    codec: Codec, frame: NDArray[np.uint8], precision: Precision = "auto", runtime: Runtime = "auto"
) -> dict[str, list[tuple[Path, Feed]]]:
    """The graphs that a frame needs, by part (encoder, context, decoder, flow), each with what it was fed.

    A part that no ONNX graph runs (a TensorRT engine) is left out.
    """
    bundle = codec.bundle
    names = [
        name.removesuffix(".onnx") for name in (*REQUIRED, FLOW) if name.endswith(".onnx") and name in bundle.files
    ]
    parts: dict[str, list[tuple[Path, Feed]]] = {"encoder": [], "context": []}
    with ExitStack() as opened, Codec(bundle, precision=precision, runtime=runtime) as recorded:
        for name in names:
            runner = opened.enter_context(closing(open_runner(bundle, name, 1, precision, runtime)))
            graph = bundle.folder / choose(bundle, name, precision, runtime).graph
            recorded.use(name, _RecordingRunner(runner, graph, parts.setdefault(name.split("_")[0], [])))
        packet = recorded.pack(recorded.analyze(frame), quality=0.5)
        parts["context"].clear()  # unpacking walks through it again
        recorded.synthesize(recorded.unpack(packet), steps=1 if codec.has_flow else 0)
    return {part: fed for part, fed in parts.items() if fed}


class _RecordingRunner:
    """Runner that notes what it feeds to an ONNX graph."""

    def __init__(self, runner: GraphRunner, graph: Path, fed: list[tuple[Path, Feed]]) -> None:
        self._runner, self._graph, self._fed = runner, graph, fed

    def run(self, feed: Feed) -> Arrays:
        if self._graph.suffix == ".onnx":
            self._fed.append((self._graph, dict(feed)))
        return self._runner.run(feed)


def by_operator(
    codec: Codec, frame: NDArray[np.uint8], threads: int, precision: Precision = "auto", runtime: Runtime = "auto"
) -> dict[str, list[dict[str, Any]]]:
    """For each part, the nodes that take longest first, with share of time and GMAC a second."""
    result = {}
    for name, graphs in feeds(codec, frame, precision, runtime).items():
        lines = [line for graph, feed in graphs for line in trace(graph, feed, threads)]
        lines.sort(key=lambda line: -line["seconds"])
        total_s = sum(line["seconds"] for line in lines) or 1.0
        for line in lines:
            line["share"] = line["seconds"] / total_s
            line["gmac_per_s"] = line["macs"] / line["seconds"] / 1e9 if line["seconds"] else None
        result[name] = lines
    return result


def macs_by_kind(codec: Codec, frame: NDArray[np.uint8], precision: Precision = "auto") -> dict[str, dict[str, int]]:
    """Multiplications that each part was seen to do for this frame, by kind."""
    result: dict[str, dict[str, int]] = {}
    for name, graphs in feeds(codec, frame, precision).items():
        kinds: dict[str, int] = defaultdict(int)
        for graph, feed in graphs:
            for line in trace(graph, feed, 1, optimize=False):
                kinds[line["kind"]] += line["macs"]
        result[name] = {kind: macs for kind, macs in kinds.items() if macs}
    return result
