"""Int8 decoder of a training run: written for a bundle whose codec it was trained for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from edgesem.bundle.bundle import DECODER
from edgesem.bundle.runner import OrtRunner
from export.graphs.write import export_decoder
from export.quantization.replacement_cost import Cost, CostMeter
from export.quantization.sensitivity import Progress, Quantized
from export.quantization.trained import quantize_trained
from export.training.int8 import open_int8


def quantize_run(
    run: Path, path: Path, meter: CostMeter, target_percent: float, progress: Progress = lambda *_: None
) -> Quantized:
    """Write the int8 decoder of a run of `edgesem train --decoder-int8` to `path`; what it costs, as `meter` finds.

    With the decoder of another codec than the bundle's it costs more than any target. Raises InputError when the folder
    holds no such run.
    """
    net, ranges = open_int8(run)

    def price(graph: Path) -> Cost:
        progress("measuring", 0.3)
        return meter.cost({"decoder": OrtRunner(graph)})

    with TemporaryDirectory() as folder:
        progress("writing the graph", 0.0)
        export_decoder(net, Path(folder))
        return quantize_trained(Path(folder) / DECODER, path, ranges, price, target_percent)
