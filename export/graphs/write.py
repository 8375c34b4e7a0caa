"""Writers of ONNX graphs from torch modules: opset 20, sides of any multiple of 16, large weights as float16."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from edgesem.bundle.bundle import DECODER
from edgesem.codec.flow import WINDOW
from edgesem.entropy.schedule import CHANNELS, STRIDE
from export.graphs.targets import OPSET

_WORTH_HALVING = 1024  # numbers in a tensor


def export_encoder(encoder: nn.Module, folder: Path) -> None:
    """Write encoder.onnx: frame float32 [1,3,16h,16w], RGB 0..1 -> latent float32 [1,96,h,w]."""
    to_half_precision(encoder)
    frame = torch.rand(1, 3, 4 * STRIDE, 6 * STRIDE)
    write(encoder, folder / "encoder.onnx", {"frame": frame}, ["latent"], {"frame": STRIDE})
    store_half(folder / "encoder.onnx")


def export_decoder(decoder: nn.Module, folder: Path, name: str = DECODER) -> None:
    """Write a decoder: latent float32 [1,96,h,w], quality [1,1,1,1], 0..1 -> picture float32 [1,3,16h,16w]."""
    inputs = {"latent": torch.rand(1, CHANNELS, 4, 6), "quality": torch.full((1, 1, 1, 1), 0.5)}
    to_half_precision(decoder)
    write(decoder, folder / name, inputs, ["picture"], {"latent": 1})
    store_half(folder / name)


def export_flow(flow: nn.Module, folder: Path) -> None:
    """Write flow.onnx: one step of the flow decoder, on pictures of whole attention windows (export.networks.flow)."""
    height, width = 2 * WINDOW, 3 * WINDOW
    inputs = {  # each a tensor of its own: the exporter takes one tensor in two places for one input
        "state": torch.rand(1, 3, height, width),
        "base": torch.rand(1, 3, height, width),
        "latent": torch.rand(1, CHANNELS, height // STRIDE, width // STRIDE),
        "quality": torch.full((1, 1, 1, 1), 0.5),
        "time": torch.full((1, 1, 1, 1), 0.25),
    }
    strides = {"state": WINDOW, "base": WINDOW, "latent": WINDOW // STRIDE}
    to_half_precision(flow)
    write(flow, folder / "flow.onnx", inputs, ["picture"], strides)
    store_half(folder / "flow.onnx")


@torch.no_grad()
def to_half_precision(module: nn.Module) -> None:
    """Round a network's parameters, in place, to what float16 can hold."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half().float())


def store_half(path: Path) -> None:
    """Keep the large float weights of a graph as float16 with a cast behind each: half the file, the same results.

    The runtime folds the casts when it loads the graph, so arithmetic stays float32.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _WORTH_HALVING:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, path)


def write(
    module: nn.Module, path: Path, inputs: dict[str, Tensor], outputs: list[str], stride_of: dict[str, int]
) -> None:
    """Export with height and width of each input named in `stride_of` free, as that multiple of a common h and w."""
    h, w = torch.export.Dim("h", min=1, max=256), torch.export.Dim("w", min=1, max=256)
    shapes = {n: {2: stride_of[n] * h, 3: stride_of[n] * w} if n in stride_of else {} for n in inputs}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            module.eval().float(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple(shapes.values()),
            external_data=False,
            verbose=False,
        )
    _strip_metadata(path)


def _strip_metadata(path: Path) -> None:
    """Remove what the exporter notes of each node: a stack trace of this machine, 3 % of a file, and its paths."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)
