"""Int8 and fp16 forms of a graph: what is rounded, where, and for which runtime.

    graph.onnx -> prepare -> calibrate (real pictures) -> quantize(profile, exclude) -> graph.int8.onnx
                        `--> to_half ------------------------------------------------> graph.fp16.onnx

Only layers with weights are quantized: rounding normalisation and attention as well costs 20 dB. What merely stands
between two such layers (activation, residual sum, pixel shuffle) stays in integers with them where the runtime gains
by it, and whatever leads straight to an output never does.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx

from edgesem.errors import ExportError, InputError, UsageError
from export.graphs import edit as graph_edit
from export.graphs.edit import LAYERS, MOVES
from export.quantization.ranges import Feed, Ranges, narrowed

_NORMS = ("GroupNormalization", "InstanceNormalization", "LayerNormalization", "ReduceMean", "Softmax", "Sqrt", "Pow")


@dataclass(frozen=True)
class Profile:
    """How a runtime wants its integers."""

    name: str
    suffix: str
    """Stands in the file's name: encoder{suffix}.onnx."""
    signed: bool
    layers: tuple[str, ...] = LAYERS
    """Operators that are quantized."""
    carried: tuple[str, ...] = ()
    """Operators that stay in integers between two quantized layers."""
    options: dict[str, Any] = field(default_factory=dict)


# ONNX Runtime has no integer kernel for ConvTranspose on a CPU: to round around it would cost quality for nothing.
CPU = Profile("cpu", ".int8", signed=False, layers=("Conv", "MatMul"), carried=("Relu", "Add", "DepthToSpace"))
TENSORRT = Profile(
    "tensorrt",
    ".trt-int8",
    signed=True,
    options={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(LAYERS),  # TensorRT fuses best when only inputs are rounded
    },
)
PROFILES = {profile.name: profile for profile in (CPU, TENSORRT)}


def prepare(source: Path, target: Path, profile: Profile = CPU) -> list[str]:
    """Write the float graph that quantization starts from, and return the names of the layers that it may quantize.

    Constants are folded. For unsigned integers, a constant that is subtracted from the picture goes into the bias of
    the convolutions that read it: the picture itself then has 256 values and is quantized without error. Signed ones
    have their zero in the middle, where the subtraction puts it.
    """
    import onnxruntime
    from onnxruntime.quantization.shape_inference import quant_pre_process

    onnxruntime.set_default_logger_severity(3)  # its optimiser warns of every constant that it folded away
    try:
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        model = onnx.load(target)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise InputError(f"{source} cannot be prepared for quantization: {error}") from error
    if not profile.signed:
        graph_edit.fold_shift(model.graph)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save(model, target)
    return graph_edit.layers(model.graph, profile.layers)


def calibrate(prepared: Path, feeds: Sequence[Feed]) -> Ranges:
    """The range of every tensor that rounds it best over `feeds`, which must be what the graph sees in use: pictures.

    Raises UsageError without feeds: ranges of random numbers make a graph that is wrong and looks right.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    if not feeds:
        raise UsageError("quantization needs real pictures to calibrate on: name a folder with --data")
    with tempfile.TemporaryDirectory() as scratch:
        calibrator = create_calibrator(
            prepared,
            [*LAYERS, *MOVES],
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        left = iter(feeds)
        calibrator.collect_data(SimpleNamespace(get_next=lambda: next(left, None)))
        return narrowed(prepared, calibrator.compute_data().data, feeds)


def quantize(prepared: Path, target: Path, ranges: Ranges, profile: Profile, exclude: Collection[str] = ()) -> None:
    """Write the int8 QDQ form of a prepared graph; layers named in `exclude` stay in float."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.load(prepared)
    patches = graph_edit.patch_transforms(model.graph, exclude) if profile is CPU else []
    kept = set(graph_edit.layers(model.graph, profile.layers)) - set(exclude) - set(patches)
    if not kept | set(patches):
        raise ExportError(f"{prepared.name}: no layer is left to quantize")
    carried = graph_edit.carried_nodes(model.graph, kept | set(patches), profile.carried)
    if kept:
        quantizer = QDQQuantizer(
            model,
            True,  # a scale for each channel of a weight
            False,
            QuantType.QInt8,
            QuantType.QInt8 if profile.signed else QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, dict(ranges)),
            sorted(kept | carried),
            [],
            [*profile.layers, *profile.carried],
            dict(profile.options),
        )
        quantizer.quantize_model()
        model = quantizer.model.model
    for name in patches:
        graph_edit.as_product(model.graph, name)
    graph_edit.finish(model, target)


def quantize_with_optimum(
    source: Path, target: Path, feeds: Sequence[Feed], profile: Profile, exclude: Collection[str] = ()
) -> None:
    """The same through optimum's ORTQuantizer, for graphs of one input. Needs the extra optimum."""
    from edgesem.errors import require

    if not feeds:
        raise UsageError("quantization needs real pictures to calibrate on: name a folder with --data")
    ort = require("optimum.onnxruntime", "optimum")
    logging.getLogger(ort.ORTQuantizer.__module__).setLevel(logging.ERROR)  # it warns of a file that a graph lacks
    settings = require("optimum.onnxruntime.configuration", "optimum")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantizationMode, QuantType

    data = [{name: array[0] for name, array in feed.items()} for feed in feeds]  # optimum adds the batch axis itself
    calibration = settings.CalibrationConfig(
        dataset_name="pictures",
        dataset_config_name="",
        dataset_split="train",
        dataset_num_samples=len(data),
        method=CalibrationMethod.MinMax,
    )
    wanted = settings.QuantizationConfig(
        is_static=True,
        format=QuantFormat.QDQ,
        mode=QuantizationMode.QLinearOps,
        activations_dtype=QuantType.QInt8 if profile.signed else QuantType.QUInt8,
        activations_symmetric=profile.signed,
        weights_dtype=QuantType.QInt8,
        weights_symmetric=True,
        per_channel=True,
        operators_to_quantize=list(LAYERS),
        nodes_to_exclude=list(exclude),
    )
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        model.write_bytes(source.read_bytes())
        quantizer = ort.ORTQuantizer(model)
        ranges = quantizer.fit(
            dataset=data,
            calibration_config=calibration,
            onnx_augmented_model_name=str(Path(scratch) / "augmented.onnx"),  # else it is left in the current folder
            operators_to_quantize=list(LAYERS),
        )
        quantizer.quantize(save_dir=scratch, calibration_tensors_range=ranges, quantization_config=wanted)
        graph_edit.finish(onnx.load(Path(scratch) / "model_quantized.onnx"), target)


def to_half(source: Path, target: Path) -> None:
    """Write the fp16 form of a graph: float32 at its inputs and outputs, and in every normalisation."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(
        onnx.load(source), keep_io_types=True, op_block_list=list(_NORMS), disable_shape_infer=False
    )
    graph_edit.finish(model, target)
