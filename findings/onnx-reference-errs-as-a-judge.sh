#!/usr/bin/env bash
# Finding: onnx's own reference evaluator is wrong for operators that all run times have right: a depthwise transposed convolution
#   has the bias of its first channel in each channel.
# Version: onnx 1.23.2, onnxruntime 1.32.0 and numpy 2.4.6 to compare with.
# Expected: onnx.reference is what the project gives to ask which of two run times is right. What it has not got, it refuses.
# Seen: ConvTranspose with groups calls itself for each group and passes the whole bias, of which each takes the first number.
#   LpNormalization with p=1 divides by the sum in place of the sum of the absolute values. Softmax, LogSoftmax and Hardmax
#   of opset 11 follow the rule of opset 13 (one axis in place of all from the axis on). No error or warning; checker and
#   shape inference are content. Without a bias, with p=2, or from opset 13 on, it is right.
# Meaning: who checks an exported decoder against the reference hunts for a fault in a right run time or exporter, or changes a
#   right model until it is wrong; a test of a depthwise layer whose biases are equal or zero, as they are before training,
#   passes. Ask two run times as well, and for such a layer put the bias into an Add of its own, as below.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(1)

def answers(nodes, x, opset=17, **constants):
    """What ONNX Runtime and the reference evaluator give."""
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(c, np.float32), n) for n, c in constants.items()])
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], ReferenceEvaluator(model).run(None, {"x": x})[0]

def one(operator, x, opset=17, **attributes):
    return answers([helper.make_node(operator, ["x"], ["y"], **attributes)], x, opset)

x, kernel, bias = np.ones((1, 4, 2, 2), np.float32), np.zeros((4, 1, 2, 2)), np.array([1, 2, 3, 4], np.float32)
depthwise = {"strides": [2, 2], "group": 4}
run_time, reference = answers([helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **depthwise)], x, w=kernel, b=bias)
print("kernel 0 and bias 1, 2, 3, 4: channels of ONNX Runtime", run_time[0, :, 0, 0], "reference", reference[0, :, 0, 0])
assert (run_time == bias.reshape(1, 4, 1, 1)).all() and (reference == 1).all(), "the bias has changed"
for weights in (kernel, rng.normal(size=(4, 1, 2, 2))):
    apart = [helper.make_node("ConvTranspose", ["x", "w"], ["t"], **depthwise), helper.make_node("Add", ["t", "b"], ["y"])]
    assert np.allclose(*answers(apart, x, w=weights, b=bias.reshape(1, 4, 1, 1)), atol=1e-6), "the cure fails"

values = np.array([[3, -1, 2, -2]], np.float32)
run_time, reference = one("LpNormalization", values, axis=1, p=1)
print("3, -1, 2, -2 by the sum of absolute values: ONNX Runtime", run_time[0], "reference", reference[0])
assert np.allclose(run_time, values / 8) and np.allclose(reference, values / 2), "LpNormalization has changed"
assert np.allclose(*one("LpNormalization", values, axis=1, p=2))

for operator in ("Softmax", "LogSoftmax", "Hardmax"):
    tensor = rng.normal(size=(1, 2, 3)).astype(np.float32)
    (old, judged), (new, agreed) = one(operator, tensor, 11, axis=1), one(operator, tensor, 13, axis=1)
    print(f"{operator}, opset 11: off by {abs(old - judged).max():.2f}; it gives what opset 13 means: {np.allclose(judged, new)}")
    assert np.allclose(judged, new) and np.allclose(new, agreed) and not np.allclose(old, new, atol=0.1)
    if operator == "Softmax":
        assert np.isclose(old.sum(), 1) and np.isclose(judged.sum(), 3), "the sums have changed"
EOF
