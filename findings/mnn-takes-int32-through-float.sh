#!/usr/bin/env bash
# Finding: MNN computes Mul, Max, Min and Abs of 32-bit integers in float32, so numbers beyond 2**24 lose their last bits.
# Version: MNN 3.6.1 on x86-64; onnx 1.23.2, onnxruntime 1.32.0 to compare with.
# Expected: an ONNX file with int32 tensors gives the same integers in each engine: that is why networks with fixed-point
#   arithmetic are exported so. MNN says that its tensors are int, and the result comes back as int32.
# Seen: max(16777217, 0) is 16777216. Add, Sub and Div of the same tensors are exact; Mul, Max, Min and Abs are wrong for 96 %
#   of random numbers between 2**24 and 2**30, by up to 32. A product that does not fit is -2147483648, where ONNX Runtime wraps
#   round. Below 2**24 all are exact, so a test with small numbers is green.
# Meaning: a 32-bit accumulator that is clipped with Max and Min (an integer ReLU) differs between server and board. If
#   an entropy coder's table is chosen with it, the rest of the stream is noise. Rescale sums below 2**24 before Max, Min or
#   Mul, and compare engines with inputs that fill the 32 bits.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check MNN==3.6.1 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF' | grep -v -e Convert -e '^\[' -e Tensors -e Optimize -e 'device supports'
import _tools  # what mnnconvert calls; the command itself would run pip first
import MNN.expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

COUNT = 1000

def both(operator, *inputs):
    """Results of ONNX Runtime and of MNN for one operator on int32 tensors."""
    names = ["a", "b"][:len(inputs)]
    values = [helper.make_tensor_value_info(name, TensorProto.INT32, [COUNT]) for name in names + ["y"]]
    graph = helper.make_graph([helper.make_node(operator, names, ["y"])], "g", values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(zip(names, inputs)))[0]
    _tools.mnnconvert("mnnconvert -f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode finding".split())
    net = MNN.nn.load_module_from_file("model.mnn", names, ["y"])
    found = net.forward([MNN.expr.const(x, [COUNT], MNN.expr.NCHW, MNN.expr.int) for x in inputs])[0]
    assert found.dtype == MNN.expr.int
    return expected.astype(np.int64), np.array(found.read()).astype(np.int64)

def wrong(operator, *inputs):
    """Share of wrong results in per cent, and the largest error."""
    expected, found = both(operator, *inputs)
    return 100 * float((expected != found).mean()), int(np.abs(expected - found).max())

print("MNN", MNN.version())
rng = np.random.default_rng(1)
large = rng.integers(2 ** 24, 2 ** 30, COUNT).astype(np.int32)
large[0] = 2 ** 24 + 1
small, one, zero = (large >> 7).astype(np.int32), np.ones(COUNT, np.int32), np.zeros(COUNT, np.int32)
results = {}
for operator, inputs in (("Add", (1, zero)), ("Sub", (1, zero)), ("Div", (1, one)), ("Mul", (1, one)), ("Max", (1, zero)),
                         ("Min", (1, zero + (2 ** 31 - 1))), ("Abs", (1,))):
    results[operator] = [wrong(operator, numbers, *inputs[1:]) for numbers in (large, small)]
    print(f"{operator}: above 2**24 {results[operator][0][0]:5.1f} % wrong, by up to {results[operator][0][1]}; "
          f"below {results[operator][1][0]:.1f} %")
print("max(2**24 + 1, 0):", [int(result[0]) for result in both("Max", large, zero)])
square = np.full(COUNT, 65537, np.int32)
print("65537 * 65537:", [int(result[0]) for result in both("Mul", square, square)])
assert all(results[operator][0] == (0, 0) for operator in ("Add", "Sub", "Div"))
assert all(below == (0, 0) for _, below in results.values())  # the cure: stay below 2**24
assert all(results[operator][0][0] > 40 for operator in ("Mul", "Max", "Min", "Abs")), "some are exact now"
assert both("Max", large, zero)[1][0] == 2 ** 24 and both("Mul", square, square)[1][0] == -2 ** 31
EOF
