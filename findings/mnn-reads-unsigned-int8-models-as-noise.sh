#!/usr/bin/env bash
# Finding: a model with unsigned 8-bit activations, as ONNX Runtime quantizes them, is converted and run by MNN with each
#   activation 128 steps too low.
# Version: MNN 3.6.1 on x86-64; onnx 1.23.2, onnxruntime 1.32.0.
# Expected: QuantizeLinear and DequantizeLinear name their types. The converter reads them, so it keeps uint8 or refuses it.
# Seen: the converter says "Converted Success!". Alone, the pair of operators turns each number x into x - 128 * scale, for each
#   zero point. In a network with two convolutions the output has 7 dB more error than signal. With signed activations
#   and a scale for each channel MNN's output equals ONNX Runtime's to the last bit, so the engine itself is sound. A
#   search of public issues found nothing of it.
# Meaning: unsigned activations are what PyTorch's x86 settings and ONNX Runtime's U8S8 give. A codec or detector that was
#   checked with ONNX Runtime draws noise on the board, and the float model in the same engine is right, so the search
#   begins at the wrong end. Quantize with activation_type=QInt8 and per_channel=True, and compare the engines' outputs.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check MNN==3.6.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF' | grep -v -e Convert -e '^\[' -e Tensors -e Optimize -e 'device supports'
import logging
import _tools  # what mnnconvert calls; the command itself would run pip first
import MNN.expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

logging.disable(logging.WARNING)  # a hint of the quantizer
rng = np.random.default_rng(0)
y, x = np.mgrid[0:32, 0:32]
picture = (0.5 + 0.3 * np.sin(x / 4) * np.cos(y / 5) + rng.normal(0, 0.03, (32, 32))).astype(np.float32)[None, None]

class OnePicture(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": picture}]

    def get_next(self):
        return self.left.pop() if self.left else None

def save(nodes, constants, shape):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")

def both(name, data):
    """Outputs of ONNX Runtime and of MNN."""
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    _tools.mnnconvert(f"mnnconvert -f ONNX --modelFile {name} --MNNModel model.mnn --bizCode finding".split())
    net = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"])
    out = net.forward([MNN.expr.const(data, list(data.shape), MNN.expr.NCHW, MNN.expr.float)])[0]
    return session.run(None, {"x": data})[0], np.array(MNN.expr.convert(out, MNN.expr.NCHW).read()).reshape(data.shape)

line = np.arange(-20, 21, dtype=np.float32).reshape(1, 1, 1, -1)
for kind, zero in ((np.uint8, 0), (np.uint8, 128), (np.uint8, 200), (np.int8, 5)):
    pair = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    save(pair, {"s": np.float32(0.5), "z": kind(zero)}, line.shape)
    by_ort, by_mnn = both("model.onnx", line)
    print(f"{kind.__name__}, zero point {zero}, scale 0.5: MNN's values are off by {np.unique(by_mnn - by_ort)}")
    assert set((by_mnn - by_ort).flat) == {-64.0 if kind is np.uint8 else 0.0}, "unsigned numbers are read otherwise now"

layers = [helper.make_node("Conv", ["x", "v"], ["a"], pads=[1] * 4), helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.1),
          helper.make_node("Conv", ["b", "w"], ["y"], pads=[1] * 4)]
kernels = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in (("v", (8, 1, 3, 3)), ("w", (1, 8, 3, 3)))}
for kind in (QuantType.QInt8, QuantType.QUInt8):
    save(layers, kernels, picture.shape)
    exact = both("model.onnx", picture)[0]
    quantize_static("model.onnx", "int8.onnx", OnePicture(), quant_format=QuantFormat.QDQ, activation_type=kind,
                    weight_type=QuantType.QInt8, per_channel=True)
    outputs = both("int8.onnx", picture)
    by_ort, by_mnn = (10 * np.log10(np.mean(exact ** 2) / np.mean((exact - found) ** 2)) for found in outputs)
    print(f"{kind.name} activations: signal to noise {by_ort:.1f} dB in ONNX Runtime, {by_mnn:.1f} dB in MNN")
    assert by_ort > 35 and (np.array_equal(*outputs) if kind is QuantType.QInt8 else by_mnn < 0)
EOF
