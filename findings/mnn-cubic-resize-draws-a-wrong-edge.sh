#!/usr/bin/env bash
# Finding: MNN enlarges a picture by cubic interpolation with wrong first rows and columns, a whole pixel off.
# Version: MNN 3.6.1 on x86-64; onnx 1.23.2, onnxruntime 1.32.0 and onnx's reference evaluator to compare with.
# Expected: Resize with mode cubic and half_pixel, as PyTorch exports "bicubic", is the same in each engine up to rounding.
# Seen: the first row (two at a factor of 4) lies before the first pixel centre, at -0.25 for a factor of 2. MNN has the right
#   fraction, 0.75, but counts it from pixel 0, not from -1, so it draws what belongs to +0.75. All other values agree,
#   the last row and column too; align_corners, asymmetric and making pictures smaller have no such place and are right.
#   antialias=1 is taken without a word and does nothing. A search of public issues found neither.
# Meaning: a decoder or an upscaler has a line along two sides, and one that works in tiles has it at each seam. The mean error
#   of a whole picture hides it: 40 dB here, where all but the edge is exact. Pad by one pixel before and cut it off
#   after, or use linear; make smaller by AveragePool, not by antialias.
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
from onnx.reference import ReferenceEvaluator

SIDE = 48
y, x = np.mgrid[0:SIDE, 0:SIDE]
scene = 128 + 50 * np.sin(x / 5) * np.cos(y / 6) + 30 * np.sin(x * 1.1) + np.random.default_rng(1).normal(0, 5, (SIDE, SIDE))
picture = scene.clip(0, 255).astype(np.float32)[None, None]

def resized(picture, factor, **attributes):
    """The picture by ONNX Runtime, by onnx's reference evaluator and by MNN."""
    side = int(picture.shape[2] * factor)
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **{"mode": "cubic", **attributes})
    values = [helper.make_tensor_value_info(*what) for what in (("x", TensorProto.FLOAT, picture.shape),
                                                               ("y", TensorProto.FLOAT, [1, 1, side, side]))]
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 1, side, side])
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:], [sizes]),
                              opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    _tools.mnnconvert("mnnconvert -f ONNX --modelFile model.onnx --MNNModel model.mnn --bizCode finding".split())
    net = MNN.nn.load_module_from_file("model.mnn", ["x"], ["y"])
    out = net.forward([MNN.expr.const(picture, list(picture.shape), MNN.expr.NCHW, MNN.expr.float)])[0]
    by_mnn = np.array(MNN.expr.convert(out, MNN.expr.NCHW).read()).reshape(side, side)
    return session.run(None, {"x": picture})[0][0, 0], ReferenceEvaluator(model).run(None, {"x": picture})[0][0, 0], by_mnn

print("MNN", MNN.version())
for factor, mode in ((1.5, "half_pixel"), (2, "half_pixel"), (3, "half_pixel"), (4, "pytorch_half_pixel"),
                     (2, "align_corners"), (2, "asymmetric"), (0.5, "half_pixel")):
    by_ort, by_reference, by_mnn = resized(picture, factor, coordinate_transformation_mode=mode)
    error = abs(by_mnn - by_ort)
    rows, columns = (np.flatnonzero((error > 0.01).mean(axis) > 0.9).tolist() for axis in (1, 0))
    decibels = 10 * np.log10(255 ** 2 / max(np.mean(error ** 2, dtype=float), 1e-9))
    print(f"cubic, {mode}, times {factor}: wrong rows {rows}, columns {columns}, by up to {error.max():.4f}; {decibels:.0f} dB")
    count = int(np.ceil(factor / 2 - 0.5)) if "half_pixel" in mode else 0  # of the places before the first pixel centre
    assert abs(by_reference - by_ort).max() < 0.01 and error[count:, count:].max() < 0.01
    assert rows == columns == list(range(count)), "the edge has changed"
    if factor == 2 and count:
        assert np.allclose(by_mnn[1:, 0], by_ort[1:, 2], atol=0.01)  # that is +0.75
        assert 35 < decibels < 45
        padded = resized(np.pad(picture, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge"), 2, coordinate_transformation_mode=mode)[2]
        assert np.allclose(padded[2:-2, 2:-2], by_ort, atol=0.01), "the cure fails"

for mode in ("linear", "cubic"):
    smooth, plain = (resized(picture, 0.25, mode=mode, antialias=flag) for flag in (1, 0))
    print(f"{mode}, times 0.25: antialias=1 changes ONNX Runtime's values by up to {abs(smooth[0] - plain[0]).max():.1f}, "
          f"MNN's by {abs(smooth[2] - plain[2]).max():.1f}")
    assert abs(smooth[0] - smooth[1]).max() < 0.01 and abs(smooth[0] - plain[0]).max() > 20
    assert np.array_equal(smooth[2], plain[2]), "MNN has antialias now"
EOF
