#!/usr/bin/env bash
# Finding: OpenVINO computes a model's 64-bit integers in 32 bits, and its sums of 8-bit integers stop at 0 and 255, where
#   numpy and ONNX Runtime wrap.
# Version: openvino 2026.4.1 (CPU), onnx 1.23.2, onnxruntime 1.32.0 to compare with.
# Expected: input and output are announced as int64, and hold what int64 holds. The manual of the CPU device lists INT32 as
#   its only integer precision beside those of quantized models, so a model that needs 64 bits is refused, or at least a
#   number that does not fit.
# Seen: a time in milliseconds that only passes through a Reshape comes back as -1001362309 in place of 1790000000123. The
#   time since a constant start is wrong though it is small, as a constant stops at the end of 32 bits and an input wraps;
#   max(time, 0) is 0. Open since May 2026 as openvino issues 35823 and 35891. For uint8, 200 + 100 is 255 (ONNX Runtime: 44)
#   and 3 - 5 is 0 (254); ONNX's manual says nothing of overflow. int32 is exact.
# Meaning: a model that carries time stamps or counters beside the picture loses them on this run time only, with the right
#   type on the result. A codec with residuals modulo 256 in uint8, lossless elsewhere, is not reversible here. Pass the time
#   as two int32, and compute residuals in int32 and fold them with Mod, as below.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 \
  >pip.log 2>&1 || { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper

core = openvino.Core()
NOW = 1_790_000_000_123  # milliseconds since 1970
INT64, INT32, UINT8 = TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8

def both(label, nodes, values, **constants):
    """The results of OpenVINO and of ONNX Runtime, which have the type of the input."""
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    graph = helper.make_graph(nodes, "numbers", [helper.make_tensor_value_info("x", kind, values.shape)],
                              [helper.make_tensor_value_info("y", kind, None)],
                              [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    found = core.compile_model(core.read_model(data), "CPU")({"x": values})[0]
    expected = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": values})[0]
    print(f"{label:26} {str(found.dtype):6} {found.ravel().tolist()}, ONNX Runtime {expected.ravel().tolist()}")
    assert found.dtype == expected.dtype == values.dtype
    return found.ravel().tolist(), expected.ravel().tolist()

def node(operation, *names):
    return helper.make_node(operation, [*names[:-1]], [names[-1]])

times = np.int64([NOW, NOW + 60_000, 5])
found, expected = both("time through Reshape", [node("Reshape", "x", "s", "y")], times, s=np.int64([3, 1]))
assert expected == times.tolist()
assert found == times.astype(np.int32).tolist(), "64 bits pass now"
found, expected = both("time since a start", [node("Sub", "x", "s", "y")], times[:2], s=np.int64(NOW - 123))
assert expected == [123, 60_123] and found != expected, "64 bits are computed now"
found, expected = both("max(time, 0)", [node("Max", "x", "s", "y")], times, s=np.int64(0))
assert found == [0, 0, 5] and expected == times.tolist()
found, expected = both("int32 beyond 2^24", [node("Mul", "x", "s", "y")], np.int32([16_777_217, -3]), s=np.int32(3))
assert found == expected == [50_331_651, -9]

bytes_ = np.uint8([200, 3])
found, expected = both("uint8 + 100", [node("Add", "x", "s", "y")], bytes_, s=np.uint8(100))
assert expected == [44, 103] and found == [255, 103], "uint8 wraps now"
found, expected = both("uint8 - 5", [node("Sub", "x", "s", "y")], bytes_, s=np.uint8(5))
assert expected == [195, 254] and found == [195, 0], "uint8 wraps now"
folded = [helper.make_node("Cast", ["x"], ["a"], to=INT32), node("Sub", "a", "s", "b"), node("Add", "b", "m", "c"),
          node("Mod", "c", "m", "d"), helper.make_node("Cast", ["d"], ["y"], to=UINT8)]
found, expected = both("uint8 - 5 by int32 and Mod", folded, bytes_, s=np.int32(5), m=np.int32(256))
assert found == expected == [195, 254], "the cure fails"
EOF
