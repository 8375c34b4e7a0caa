"""Distance of two pictures by what a detector sees: features of a deep network that no training looks through.

As LPIPS without its learned weights (Zhang et al. 2018, "baseline"): features of unit length at each position, their
squared difference summed over channels, its mean over positions, and over the depths of the network.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, require
from edgesem.quality.metrics import Frame
from export.metrics.distance import FeatureDistance

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

_LEAST_DEPTHS = 3
_SMALL = 1e-10


class DetectorFeatures(FeatureDistance):
    """The measure, with a detector of FastestDet's form: an ONNX graph of one picture [1, 3, side, side], BGR, 0..1.

    A larger picture is looked at through windows of that size, side by side and at its full resolution; a smaller one
    is continued at its edges. Raises InputError for another file.
    """

    def __init__(self, path: Path) -> None:
        onnx, ort = require("onnx", "export"), require("onnxruntime", "export")
        try:
            data = path.read_bytes()
            model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
            depths = _depths(model)
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in depths)
            options = ort.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # errors of onnx, protobuf and ONNX Runtime have no common base
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"{path} cannot be read as a detector's ONNX graph ({reason})") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[:2] != [1, 3] or not all(type(n) is int for n in shape[2:]):
            raise InputError(f"{path}: a detector takes one picture [1, 3, height, width] of fixed sides, not {shape}")
        if len(depths) < _LEAST_DEPTHS:
            raise InputError(f"{path}: features of {_LEAST_DEPTHS} depths are compared, this graph has {len(depths)}")
        self._input = inputs[0].name
        self._height, self._width = int(shape[2]), int(shape[3])
        self.digest = hashlib.sha256(data).hexdigest()

    def _seen(self, picture: Frame) -> list[Tensor]:
        torch = require("torch", "export")
        windows = [self._session.run(None, {self._input: window}) for window in self._windows(picture)]
        stacked = [torch.from_numpy(np.concatenate(depth)) for depth in zip(*windows, strict=True)]
        return [x / (x.square().sum(1, keepdim=True).sqrt() + _SMALL) for x in stacked]

    def _apart(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        torch = require("torch", "export")
        far = [(x - y).square().sum(1).mean() for x, y in zip(a, b, strict=True)]
        mean: Tensor = torch.stack(far).mean()
        return mean

    def _windows(self, picture: Frame) -> list[NDArray[np.float32]]:
        """float32 [1, 3, height, width] each, BGR, 0..1, that cover the picture evenly."""
        height, width = picture.shape[:2]
        below, right = max(0, self._height - height), max(0, self._width - width)
        padded = np.pad(picture[..., ::-1], ((0, below), (0, right), (0, 0)), mode="edge")
        planes = padded.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return [
            np.ascontiguousarray(planes[:, :, top : top + self._height, left : left + self._width])
            for top in _starts(height, self._height)
            for left in _starts(width, self._width)
        ]


def _starts(side: int, window: int) -> list[int]:
    """Where windows begin that cover a side, at even distances."""
    count = max(1, -(-side // window))
    return [round(k * (side - window) / (count - 1)) for k in range(count)] if count > 1 else [0]


def _depths(model: onnx.ModelProto) -> list[str]:
    """At each height of features, from the picture's down: the last activation before the next lower height begins."""
    heights = {
        value.name: value.type.tensor_type.shape.dim[2].dim_value
        for value in (*model.graph.value_info, *model.graph.output)
        if len(value.type.tensor_type.shape.dim) == 4
    }
    found: dict[int, str] = {}
    for node in model.graph.node:
        height = heights.get(node.output[0], 0)
        if node.op_type == "Relu" and height > 1 and height <= min(found, default=height):
            found[height] = node.output[0]
    return [found[height] for height in sorted(found, reverse=True)]
