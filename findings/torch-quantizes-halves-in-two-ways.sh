#!/usr/bin/env bash
# Finding: PyTorch trains with one rounding of half steps (fake_quantize) and quantizes with another (quantize_per_tensor).
# Version: torch 2.13.0 on x86-64, onnx 1.23.2, onnxruntime 1.32.0.
# Expected: fake quantization in training gives what quantization gives later. PyTorch's manual has round(x / scale) + zero
#   point for it, ONNX has the same for QuantizeLinear, and halves go to the even neighbour.
# Seen: quantize_per_tensor and quantize_per_channel add the zero point first and round then. With an even zero point that is
#   the same. With an odd one each half goes the other way, a full step off. fake_quantize, the operators that torch.export
#   uses (quantized_decomposed) and ONNX Runtime agree with the manual.
# Meaning: halves are no rare case in pictures: every second mean of two 8-bit pixels is one. Half of the values of such a layer
#   come out a step away from what training saw, in PyTorch's own int8 model only, and by the luck of the zero point.
#   Judge int8 by the ONNX file, or make the zero point even (a symmetric scheme has 0 or 128).
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import warnings
warnings.simplefilter("ignore")
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.ao.quantization import MinMaxObserver
from torch.ao.quantization.fx import _decomposed  # registers torch.ops.quantized_decomposed

def by_onnx(x, scale, zero):
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(x.shape)) for name in ("x", "y")]
    constants = [helper.make_tensor("s", TensorProto.FLOAT, [], [scale]),
                 helper.make_tensor("z", TensorProto.UINT8, [], [zero])]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants),
                              opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

def by_export(x, scale, zero):
    ops = torch.ops.quantized_decomposed
    q = ops.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)
    return ops.dequantize_per_tensor(q, scale, zero, 0, 255, torch.uint8)

def shares(x, scale, zero):
    """Share of the values in which each way differs from fake quantization, in per cent; largest difference in steps."""
    trained = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)
    real = torch.quantize_per_tensor(x, scale, zero, torch.quint8).dequantize()
    channel = torch.quantize_per_channel(x, torch.tensor([scale]), torch.tensor([zero]), 0, torch.quint8).dequantize()
    ways = real, channel, by_export(x, scale, zero), by_onnx(x, scale, zero)
    found = [100 * float((way != trained).float().mean()) for way in ways]
    steps = float((real - trained).abs().max() / scale)
    print(f"scale {scale:.4f}, zero point {zero:3}: per tensor {found[0]:.1f} %, per channel {found[1]:.1f} %, exported "
          f"{found[2]:.1f} %, ONNX Runtime {found[3]:.1f} %; largest difference {steps:.0f} step")
    return found, steps

print("torch", torch.__version__, "differs from fake_quantize in:")
frames = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 1, 120, 320)).astype(np.float32))
change = torch.nn.functional.avg_pool2d((frames[1:] - frames[:1]).clamp(-127, 128), (1, 2)).reshape(1, -1)
change[0, :2] = torch.tensor([-127.0, 128.0])  # the range of the picture difference
observer = MinMaxObserver(dtype=torch.quint8)
observer(change)
scale, zero = (tensor.item() for tensor in observer.calculate_qparams())
found, steps = shares(change, scale, zero)
assert (scale, zero) == (1.0, 127)
assert found[0] == found[1] > 40 and steps == 1, "both ways round alike now"
assert found[2] == found[3] == 0, "export or ONNX Runtime changed"
assert max(shares(change, 1.0, 128)[0]) == 0  # the cure: an even zero point
assert max(shares(change, 1.0, 129)[0]) > 40
EOF
