"""Int8 decoder of a training run: written for a bundle whose codec it was trained for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import numpy_helper

from edgesem.bundle.bundle import DECODER
from edgesem.bundle.runner import OrtRunner
from edgesem.errors import InputError
from export.graphs.write import export_decoder
from export.quantization.replacement_cost import Cost, CostMeter
from export.quantization.sensitivity import Progress, Quantized
from export.quantization.trained import quantize_trained
from export.training.int8 import open_int8

_SAME_CODEC = 1e-3  # of the largest weight: a bundle's graph holds them as float16


def quantize_run(
    run: Path,
    decoder: Path,
    path: Path,
    meter: CostMeter,
    target_percent: float,
    progress: Progress = lambda *_: None,
) -> Quantized:
    """Write the int8 decoder of a run of `edgesem train --decoder-int8` to `path`; what it costs, as `meter` finds.

    Raises InputError when the folder holds no such run, or one for another codec than that of `decoder`, the bundle's
    graph.
    """
    net, ranges = open_int8(run)
    linear = net.linear.weight.numpy(force=True)  # training leaves it as the codec has it
    arrays = (numpy_helper.to_array(one) for one in onnx.load(decoder).graph.initializer)
    same = [array for array in arrays if array.shape == linear.shape]
    if not any(float(np.abs(array - linear).max()) <= _SAME_CODEC * float(np.abs(linear).max()) for array in same):
        raise InputError(f"{run} was trained for another codec than that of {decoder.parent}")

    def price(graph: Path) -> Cost:
        progress("measuring", 0.3)
        return meter.cost({"decoder": OrtRunner(graph)})

    with TemporaryDirectory() as folder:
        progress("writing the graph", 0.0)
        export_decoder(net, Path(folder))
        return quantize_trained(Path(folder) / DECODER, path, ranges, price, target_percent)
