#!/usr/bin/env bash
# Finding: tract gives a transposed convolution with `output_shape` the right size and the wrong picture: it is moved by a pixel.
#   It runs a reverse LSTM or GRU forwards too, and takes a mean where GlobalLpPool has a sum.
# Version: tract 0.23.9, onnx 1.23.2, onnxruntime 1.32.0.
# Expected: what the operators' text in ONNX says: for an output_shape without auto_pad the larger half of what is too much is
#   cut at the start, so of 3 columns with a kernel of 3 and a stride of 2, which give 7, the first is cut for 6, and the first
#   and the last for 5. direction=reverse begins at the end of the sequence. GlobalLpPool of 3 and 4 is 5.
# Seen: tract cuts everything at the end, so 6 and 5 columns are moved by one, without an error. reverse is the same as forward;
#   bidirectional is right. GlobalLpPool of 3 and 4 is 3.54. With `pads` in place of output_shape, or with output_shape at its
#   natural size or larger, tract agrees with ONNX Runtime, which does as the text says.
# Meaning: in a decoder with four such layers the picture is moved by up to 15 pixels, and its far edges are made of other
#   values than in training; the size fits, and a look at the picture does not show it. Write pads, not output_shape, and
#   compare each exported model on a picture without symmetry. Write a reverse LSTM as a bidirectional one, or turn the input.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(1)

def answers(operator, x, *weights, **attributes):
    """What ONNX Runtime and tract give for one operator."""
    names = [f"w{i}" for i in range(len(weights))]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *names], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w.astype(np.float32), name) for w, name in zip(weights, names)])
    model = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "m.onnx")
    session = ort.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], tract.onnx().load("m.onnx").into_model().into_runnable().run([x])[0].to_numpy()

def row(values):
    return values[0, 0, 0].astype(int).tolist()

def upsample(**attributes):
    return answers("ConvTranspose", np.array([[[[1, 2, 3]]]], np.float32), np.array([[[[10, 20, 30]]]]), strides=[1, 2],
                   **attributes)

WHOLE = [10, 20, 50, 40, 90, 60, 90]
for columns, first in ((7, 0), (6, 1), (5, 1)):
    right, got = upsample(output_shape=[1, columns])
    print(f"output_shape {columns}: ONNX Runtime {row(right)}, tract {row(got)}")
    assert row(right) == WHOLE[first:first + columns], "ONNX Runtime cuts elsewhere now"
    assert row(got) == WHOLE[:columns], "tract cuts elsewhere now"
    right, got = upsample(pads=[0, first, 0, 7 - columns - first])
    assert row(right) == row(got) == WHOLE[first:first + columns], "the cure fails"

x = rng.normal(size=(5, 2, 3)).astype(np.float32)
for operator, gates in (("LSTM", 4), ("GRU", 3)):
    weights = [rng.normal(size=(1, gates * 4, n)) for n in (3, 4)] + [rng.normal(size=(1, gates * 8))]
    forward, reverse = (answers(operator, x, *weights, hidden_size=4, direction=d) for d in ("forward", "reverse"))
    both = answers(operator, x, *[np.concatenate([w, w]) for w in weights], hidden_size=4, direction="bidirectional")
    print(f"{operator}: reverse of tract is off by {abs(reverse[0] - reverse[1]).max():.2f}, and equals forward: "
          f"{np.allclose(reverse[1], forward[0], atol=1e-5)}")
    assert np.allclose(*forward, atol=1e-5) and np.allclose(*both, atol=1e-5) and not np.allclose(*reverse, atol=0.1)
    assert np.allclose(reverse[1], forward[0], atol=1e-5), "reverse is another function now"
    assert np.allclose(both[1][:, 1:], reverse[0], atol=1e-5), "the cure by a bidirectional layer fails"

right, got = answers("GlobalLpPool", np.array([[[[3, 4]]]], np.float32), p=2)
print(f"GlobalLpPool of 3 and 4: {right.item():.2f} and {got.item():.2f}")
assert np.isclose(right, 5) and np.isclose(got, 12.5 ** 0.5), "GlobalLpPool has changed"
EOF
