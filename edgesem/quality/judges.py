"""Judges: networks that look at a picture, to measure whether a decoded one still shows what the original showed.

The files come from the user. `Detector` is an ONNX graph of FastestDet's form (one output grid: objectness, box,
classes), `Classifier` a TFLite file of any size, quantized or not, run by the optional package `ai-edge-litert`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgesem.errors import FrameError, InputError, require
from edgesem.quality.metrics import Frame

Seen = TypeVar("Seen", covariant=True)

MAX_CLASSES = 100_000
MAX_GRID = 512
MAX_INPUT_SIDE = 4096
MAX_MODEL_BYTES = 1 << 30
MAX_NAMES_BYTES = 1 << 22
MAX_DETECTIONS = 100
_MAX_CANDIDATES = 1000
_MOST_OVERLAP = 0.45  # of two boxes that are not one object twice
_BOX_CHANNELS = 5  # objectness, x, y, width, height


class Judge(Protocol[Seen]):
    """A network, or several, that looks at pictures. Not safe to be used by two threads at a time."""

    @property
    def version(self) -> str:
        """What the answers depend on: judges of one version give the same answers."""
        ...

    def predict(self, frame: Frame) -> Seen:
        """What there is in a picture, uint8 [H, W, 3], RGB."""
        ...


@dataclass(frozen=True)
class Detection:
    """One object in a picture."""

    label: str
    score: float
    """0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the picture, within it."""


class _InFile:
    """A judge in a file; its digest is the version."""

    def __init__(self, path: Path) -> None:
        _check_file(path, MAX_MODEL_BYTES)
        self.path = path

    @cached_property
    def version(self) -> str:
        """The first 16 digits of the file's SHA-256."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


class Detector(_InFile):
    """Object detector in an ONNX file, with the file that names its classes, one a line.

    Raises InputError when a file cannot be read, is no such graph, or the two do not fit together.
    """

    def __init__(self, path: Path, names: Path) -> None:
        import onnxruntime as ort

        self.names = read_names(names)
        super().__init__(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise InputError(f"{path}: ONNX Runtime {ort.__version__} cannot run this graph: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"{path}: a detector has one input and one output, this has {len(inputs)}, {len(outputs)}")
        shape = inputs[0].shape
        if len(shape) != 4 or shape[1] != 3 or not all(isinstance(side, int) and _is_side(side) for side in shape[2:]):
            raise InputError(f"{path}: input {shape}: a detector takes [1, 3, height, width] of fixed sides")
        self._input = inputs[0].name
        self._height, self._width = shape[2:]

    def predict(self, frame: Frame, least_score: float = 0.4) -> list[Detection]:
        """The objects in a picture whose score is at least `least_score`, best first."""
        planes = _resized(frame, self._width, self._height)[..., ::-1].transpose(2, 0, 1)[None]  # BGR, as trained
        feed = {self._input: np.ascontiguousarray(planes, np.float32) / np.float32(255)}
        try:
            return parse_grid(self._session.run(None, feed)[0], self.names, frame.shape[1], frame.shape[0], least_score)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error


class Classifier(_InFile):
    """Picture classifier in a TFLite file.

    Raises MissingDependency without the package `ai-edge-litert`, InputError for a file that is no such model.
    """

    def __init__(self, path: Path) -> None:
        litert = require("ai_edge_litert.interpreter", "measure")
        super().__init__(path)
        try:
            self._interpreter = litert.Interpreter(model_path=str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path}: LiteRT cannot run this file: {error}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(
                f"{path}: a classifier has one input and one output, this has {len(inputs)}, {len(outputs)}"
            )
        self._input, self._output = inputs[0], outputs[0]
        shape = [int(side) for side in self._input["shape"]]
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or not all(_is_side(side) for side in shape[1:3]):
            raise InputError(f"{path}: input {shape}: a classifier takes [1, height, width, 3]")
        if self._input["dtype"] not in (np.uint8, np.int8, np.float32):
            raise InputError(f"{path}: input of type {self._input['dtype']}: uint8, int8 or float32 can be fed")
        self._height, self._width = shape[1:3]
        self.classes = int(np.prod(self._output["shape"]))
        if not 2 <= self.classes <= MAX_CLASSES:
            raise InputError(f"{path}: {self.classes} classes, 2 to {MAX_CLASSES} make sense")

    def predict(self, frame: Frame) -> NDArray[np.float32]:
        """The distribution over the classes, float32 [classes], summing to 1."""
        picture = _resized(frame, self._width, self._height)
        kind = self._input["dtype"]
        if kind == np.int8:
            feed: NDArray[np.generic] = (picture.astype(np.int16) - 128).astype(np.int8)
        elif kind == np.float32:
            feed = picture.astype(np.float32) / np.float32(127.5) - np.float32(1)
        else:
            feed = picture
        self._interpreter.set_tensor(self._input["index"], feed[None])
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output["index"])
        scale, zero = self._output["quantization"]
        return distribution(raw, float(scale), int(zero))


def parse_grid(
    grid: NDArray[np.float32], names: tuple[str, ...], width: int, height: int, least_score: float
) -> list[Detection]:
    """The objects in a detector's output, float32 [1, 5 + classes, rows, columns], best first, without doubles.

    A cell holds objectness, the box's centre as an offset in cells (tanh) and its sides as a share of the picture
    (sigmoid), and the classes' probabilities. Raises InputError for any other form, or for values that are no numbers.
    """
    if grid.ndim == 4 and grid.shape[0] == 1:
        grid = grid[0]
    if grid.ndim != 3 or grid.shape[0] != _BOX_CHANNELS + len(names):
        raise InputError(
            f"detector output {list(grid.shape)} does not fit {len(names)} class names: "
            f"[1, {_BOX_CHANNELS + len(names)}, rows, columns] is expected"
        )
    rows, columns = grid.shape[1:]
    if not (1 <= rows <= MAX_GRID and 1 <= columns <= MAX_GRID):
        raise InputError(f"detector output of {rows}x{columns} cells, at most {MAX_GRID} a side can be read")
    if not np.isfinite(grid).all():
        raise InputError("detector output holds values that are not numbers")
    classes = grid[_BOX_CHANNELS:]
    best = classes.argmax(axis=0)
    score = np.clip(grid[0] * classes.max(axis=0), 0, 1)
    row, column = np.nonzero(score >= max(least_score, 1e-6))
    order = np.argsort(-score[row, column], kind="stable")[:_MAX_CANDIDATES]
    row, column = row[order], column[order]
    x, y, w, h = grid[1:_BOX_CHANNELS, row, column].astype(np.float64)
    centre_x, centre_y = (column + np.tanh(x)) / columns, (row + np.tanh(y)) / rows
    half_w, half_h = _sigmoid(w) / 2, _sigmoid(h) / 2
    boxes = np.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], axis=1).clip(0, 1)
    labels = best[row, column]
    kept = _without_doubles(boxes, labels)
    sides = np.array([width, height, width, height])
    found = []
    for i in kept:
        left, top, right, bottom = (boxes[i] * sides).tolist()
        found.append(Detection(names[labels[i]], float(score[row[i], column[i]]), (left, top, right, bottom)))
    return found


def distribution(raw: NDArray[np.generic], scale: float = 0.0, zero: int = 0) -> NDArray[np.float32]:
    """A network's last tensor as probabilities: dequantized, and by softmax where it holds logits.

    Quantized probabilities of a flat distribution sum to less than 1, so the sum says nothing about which they are.
    """
    values: NDArray[np.float64] = np.asarray(raw, np.float64).ravel()
    if scale:
        values = (values - zero) * scale
    if not np.isfinite(values).all() or not values.size:
        raise InputError("classifier output holds values that are not numbers")
    if values.min() < 0 or values.max() > 1:
        values = np.exp(values - values.max())
    elif not values.any():
        values = np.ones_like(values)  # quantized away: it saw nothing that it knows
    return np.asarray(values / values.sum(), np.float32)


def iou(a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom), 0 to 1."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return float(inter / union) if union > 0 else 0.0


def read_names(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one a line. Raises InputError if it holds none."""
    _check_file(path, MAX_NAMES_BYTES)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as a list of names: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{path} holds {len(names)} names, 1 to {MAX_CLASSES} make sense: name a file of one a line")
    return names


def _without_doubles(boxes: NDArray[np.float64], labels: NDArray[np.intp]) -> list[int]:
    """Indices of the boxes (best first) that overlap no better one of the same class too much."""
    kept: list[int] = []
    for i in range(len(boxes)):
        if all(labels[i] != labels[k] or iou(boxes[i], boxes[k]) <= _MOST_OVERLAP for k in kept):
            kept.append(i)
            if len(kept) == MAX_DETECTIONS:
                break
    return kept


def _resized(frame: Frame, width: int, height: int) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise FrameError(f"a frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
    # Pillow's bilinear filter widens when it shrinks, so it is an area filter too
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def _is_side(side: int) -> bool:
    return 1 <= side <= MAX_INPUT_SIDE


def _check_file(path: Path, most_bytes: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if not path.is_file() or size > most_bytes:
        raise InputError(f"{path} is no file of at most {most_bytes} bytes: name the right one")
