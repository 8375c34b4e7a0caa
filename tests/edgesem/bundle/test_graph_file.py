"""Reader of ONNX files: what a hostile one costs is bounded by its size."""

import onnx
import pytest

from edgesem.bundle.graph_file import read_graph
from edgesem.errors import BundleError


def written(folder, **tensor):
    graph = onnx.GraphProto(initializer=[onnx.TensorProto(name="a", data_type=1, **tensor)])
    path = folder / "graph.onnx"
    path.write_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    return path


def test_a_constant_is_read_with_its_shape(tmp_path):
    found = read_graph(written(tmp_path, dims=[1, 2, 1], raw_data=bytes(8)))
    assert found.constants["a"].shape == (1, 2, 1)


def test_a_constant_of_many_dimensions_is_refused_before_they_are_multiplied(tmp_path):
    """The product of 20,000 dimensions of 2^62 has 150 KB, and takes 16 s; a file has room for 80 times as many."""
    with pytest.raises(BundleError, match="a constant has 20000 dimensions"):
        read_graph(written(tmp_path, dims=[1 << 62] * 20_000, raw_data=bytes(4)))
