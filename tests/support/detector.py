"""A small detector as an ONNX file."""

import numpy as np
import pytest

NAMES = ("car", "person", "dog")


def detector_file(path, classes=len(NAMES), side=32, cell=8):
    """A graph of a detector's form: averages over cells, turned into channels by fixed weights."""
    onnx = pytest.importorskip("onnx")
    channels = 5 + classes
    weights = np.zeros((channels, 3, 1, 1), np.float32)
    weights[0] = 1 / 3  # objectness: brightness
    weights[5, 2] = weights[6, 0] = 1  # the first class is red, the second blue: the graph sees BGR
    nodes = [
        onnx.helper.make_node("AveragePool", ["input"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]),
        onnx.helper.make_node("Conv", ["cells", "weights"], ["grid"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "detector",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, side, side])],
        [onnx.helper.make_tensor_value_info("grid", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path
