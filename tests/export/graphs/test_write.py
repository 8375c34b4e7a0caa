"""ONNX graphs as they are written from torch modules."""

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from export.graphs.write import write  # noqa: E402


class Blur(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, frame):
        return torch.relu(self.layer(frame))


def test_a_graph_says_nothing_of_the_machine_that_wrote_it(tmp_path):
    path = tmp_path / "blur.onnx"
    write(Blur(), path, {"frame": torch.zeros(1, 3, 32, 32)}, ["picture"], {"frame": 16})
    onnx.checker.check_model(onnx.load(path))
    data = path.read_bytes()
    assert b"stack_trace" not in data
    assert __file__.encode() not in data
