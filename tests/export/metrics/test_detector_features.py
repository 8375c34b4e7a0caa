"""Distance of pictures by what a detector sees."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgesem.errors import InputError
from export.bench.rd import measure as rd
from export.metrics.detector import DetectorFeatures
from tests.support.detector import detector_file
from tests.support.rd import photo

SIDE = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A graph of three convolutions, each of stride 2, with random weights."""
    random, nodes, weights, name = np.random.default_rng(3), [], [], "picture"
    for k, (inputs, outputs) in enumerate([(3, 8), (8, 12), (12, 16)]):
        kernel = random.normal(0, (9 * inputs) ** -0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{k}"))
        nodes.append(helper.make_node("Conv", [name, f"w{k}"], [f"c{k}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [name := f"r{k}"]))
    inputs = [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "features", inputs, outputs, weights)
    path = tmp_path_factory.mktemp("network") / "features.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_distance_grows_with_damage_from_zero(network):
    frame, distance = photo(64, 96), DetectorFeatures(network)
    values = [distance(frame, frame // step * step) for step in (1, 16, 128)]
    assert values[0] == 0
    assert 0 < values[1] < values[2]


@pytest.mark.parametrize("shape", [(150, 100), (40, 200), (33, 32), (64, 64)])
def test_damage_is_seen_wherever_it_is_and_once(network, shape):
    frame, distance = photo(*shape), DetectorFeatures(network)
    for corner in (np.s_[:8, :8], np.s_[-8:, -8:], np.s_[:8, -8:], np.s_[-8:, :8]):
        damaged = frame.copy()
        damaged[corner] = 255 - damaged[corner]
        assert distance(frame, damaged) > 0
    assert distance(frame, frame) == 0


def test_another_file_is_refused(network, tmp_path):
    (tmp_path / "text.onnx").write_text("no graph")
    flat = detector_file(tmp_path / "flat.onnx")  # without depths
    for path, what in ((tmp_path / "text.onnx", r"text\.onnx"), (flat, "depths"), (tmp_path / "none.onnx", "none")):
        with pytest.raises(InputError, match=what) as said:
            DetectorFeatures(path)
        assert len(str(said.value).splitlines()) == 1


def test_it_is_measured_where_a_detector_is_given(network):
    frame = photo(64, 96)
    metrics = rd.PictureMetrics.create(None, detector=network)
    quality = metrics(frame, frame // 16 * 16, None)
    assert quality.detector_features is not None
    assert quality.detector_features > 0
    assert metrics.all_in(quality)
