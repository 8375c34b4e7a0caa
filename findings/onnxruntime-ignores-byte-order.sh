#!/usr/bin/env bash
# Finding: ONNX Runtime takes a big-endian numpy array and reads its bytes as little-endian, without an error.
# Versions: onnxruntime 1.32.0, numpy 2.4.6 (on a little-endian machine, as x86 and common ARM systems are).
# Expected: a conversion, as for arrays with other strides, or a refusal, as onnx.numpy_helper gives.
# Seen: the value 300 arrives as 11265 (0x012C read as 0x2C01), through run() and through OrtValue. The reference
#   evaluator of onnx reads the same array right.
# Meaning: raw 16-bit thermal frames in network byte order (PGM, PNG, many camera protocols) are often viewed as dtype
#   ">u2". numpy calculates with them rightly, so checks pass, and the model sees noise. Call .astype("=u2") first.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import sys
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

assert sys.byteorder == "little"
graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], "g",
                          [helper.make_tensor_value_info("x", TensorProto.UINT16, ["n"])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

wire = bytes.fromhex("012c 012d 012e 012f")  # 300 301 302 303 in network byte order
frame = np.frombuffer(wire, ">u2")
print("numpy:             ", frame, "mean", frame.mean())
by_run = session.run(None, {"x": frame})[0]
by_value = ort.OrtValue.ortvalue_from_numpy(frame).numpy()
by_reference = ReferenceEvaluator(model).run(None, {"x": frame})[0]
converted = session.run(None, {"x": frame.astype("=u2")})[0]
strided = session.run(None, {"x": frame.astype("=u2")[::-1]})[0]
print("run():             ", by_run)
print("OrtValue:          ", by_value)
print("reference:         ", by_reference)
print("run() of astype:   ", converted)
print("run() of [::-1]:   ", strided)
try:
    numpy_helper.from_array(frame)
    refused = False
except ValueError as error:
    refused = True
    print("numpy_helper:      ", str(error)[:60])
assert by_run.tolist() == frame.byteswap().tolist() == by_value.tolist(), "the byte order is obeyed now"
assert by_reference.tolist() == converted.tolist() == [300, 301, 302, 303] and strided.tolist() == [303, 302, 301, 300]
assert refused
EOF
