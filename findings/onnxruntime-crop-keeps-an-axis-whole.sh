#!/usr/bin/env bash
# Finding: ONNX Runtime crops with Resize only along those axes whose size changes. A zoom into a part of the picture, at the
#   size of the picture, gives back the whole picture.
# Version: onnxruntime 1.32.0, onnx 1.23.2.
# Expected: coordinate_transformation_mode="tf_crop_and_resize" takes the part that roi names and resizes it to `sizes`. The
#   definition computes each coordinate from roi; onnx's reference implementation does so for each size.
# Seen: if an axis keeps its size the scale is 1, and with a scale of 1 ONNX Runtime takes each coordinate as it is, in all
#   modes (its pull request 5303: "there is no resizing along that axis"). So 96x96 to 96x96 is the input to the bit, and
#   96x96 to 96x64 has all rows and a part of the columns. 95x95 and 97x97 are right. No error, no warning, the same with
#   linear, cubic and nearest.
# Meaning: a digital zoom, or the crop for a second network, works at each size but that of the picture. There the network
#   sees all of the scene, in one direction or both, where it should see a face. Cut with Slice and resize what is left, as
#   below.
set -euo pipefail
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or later"; exit 77; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 >pip.log 2>&1 ||
  { cat pip.log; echo "skipped: the packages cannot be installed"; exit 77; }
export ORT_DISABLE_TELEMETRY=1
timeout 100 venv/bin/python -I - <<'EOF'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SIDE = 96
TOP, LEFT, BOTTOM, RIGHT = 0.25, 0.5, 0.5, 0.75  # parts of the height and width
rows, columns = np.mgrid[0:SIDE, 0:SIDE]
picture = np.stack([rows, columns])[None].astype(np.float32)  # each pixel tells its place

def results(nodes, constants):
    """What ONNX Runtime and the reference implementation make of the picture."""
    graph = helper.make_graph(nodes, "zoom", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, SIDE, SIDE])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": picture})[0], ReferenceEvaluator(model).run(None, {"x": picture})[0]

def zoom(mode, height, width):
    node = helper.make_node("Resize", ["x", "roi", "", "sizes"], ["y"], mode=mode,
                            coordinate_transformation_mode="tf_crop_and_resize")
    return results([node], {"roi": np.float32([0, 0, TOP, LEFT, 1, 1, BOTTOM, RIGHT]), "sizes": np.int64([1, 2, height, width])})

def extent(found):
    """First and last row and column that are seen."""
    return [round(float(v)) for v in (found[0, 0, 0, 0], found[0, 0, -1, -1], found[0, 1, 0, 0], found[0, 1, -1, -1])]

for mode in ("linear", "cubic", "nearest"):
    for height, width in ((95, 95), (96, 96), (97, 97), (96, 64)):
        found, definition = zoom(mode, height, width)
        print(f"{mode:8} to {height}x{width}: rows and columns {extent(found)}, by the definition {extent(definition)}")
        assert (extent(found)[:2] == [0, 95]) == (height == SIDE), "rows are cropped at each size now"
        assert (extent(found)[2:] == [0, 95]) == (width == SIDE), "columns are cropped at each size now"
        assert np.abs(np.subtract(extent(definition), [24, 48, 48, 71])).max() <= 1
assert np.array_equal(zoom("linear", SIDE, SIDE)[0], picture)
cut = helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["part"])
grow = helper.make_node("Resize", ["part", "", "", "sizes"], ["y"], mode="linear")
found, definition = results([cut, grow], {"starts": np.int64([24, 48]), "ends": np.int64([48, 72]), "axes": np.int64([2, 3]),
                                          "sizes": np.int64([1, 2, SIDE, SIDE])})
print("Slice and Resize to 96x96: rows and columns", extent(found))
assert extent(found) == [24, 47, 48, 71] and np.allclose(found, definition), "the cure fails"
EOF
