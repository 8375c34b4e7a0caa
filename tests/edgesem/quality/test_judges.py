"""Judges: their outputs are read with bounds, their files are refused with a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgesem.errors import FrameError, InputError
from edgesem.quality.judges import Classifier, Detection, Detector, distribution, iou, parse_grid, read_names
from tests.support.detector import NAMES, detector_file


def grid_with(*objects, rows=4, columns=4):
    """A detector's output with (row, column, objectness, class, share of the side) of each object."""
    grid = np.zeros((1, 5 + len(NAMES), rows, columns), np.float32)
    grid[:, 3:5] = -30
    for row, column, objectness, label, side in objects:
        logit = -np.log(1 / side - 1)
        grid[0, :5, row, column] = objectness, 0, 0, logit, logit
        grid[0, 5 + label, row, column] = 1
    return grid


@pytest.fixture
def names_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


def test_an_object_is_found_where_it_stands():
    (found,) = parse_grid(grid_with((1, 2, 0.9, 1, 0.25)), NAMES, 400, 200, 0.4)
    assert found.label == "person"
    assert found.score == pytest.approx(0.9)
    assert found.box == pytest.approx((150, 25, 250, 75), abs=0.01)


def test_doubles_are_one_and_neighbours_are_two():
    same = parse_grid(grid_with((1, 1, 0.9, 0, 0.9), (1, 2, 0.8, 0, 0.9)), NAMES, 100, 100, 0.4)
    assert [found.score for found in same] == pytest.approx([0.9])
    other_class = parse_grid(grid_with((1, 1, 0.8, 0, 0.9), (1, 2, 0.9, 1, 0.9)), NAMES, 100, 100, 0.4)
    assert [found.label for found in other_class] == ["person", "car"]
    assert len(parse_grid(grid_with((0, 0, 0.9, 0, 0.2), (3, 3, 0.8, 0, 0.2)), NAMES, 100, 100, 0.4)) == 2


def test_no_output_makes_more_objects_than_the_limit():
    grid = grid_with(*((r, c, 0.9, 0, 0.001) for r in range(40) for c in range(40)), rows=40, columns=40)
    assert len(parse_grid(grid, NAMES, 1000, 1000, 0.4)) == 100


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.just(1), st.integers(0, 9), st.integers(0, 5), st.integers(0, 5)),
        elements=st.floats(width=32),
    )
)
@settings(max_examples=60)
def test_any_output_is_read_or_refused(grid):
    try:
        found = parse_grid(grid, NAMES, 64, 48, 0.1)
    except InputError:
        return
    for detection in found:
        left, top, right, bottom = detection.box
        assert 0 <= left <= right <= 64
        assert 0 <= top <= bottom <= 48
        assert 0.1 <= detection.score <= 1
        assert isinstance(detection, Detection)


def test_a_detector_runs(tmp_path, names_file):
    detector = Detector(detector_file(tmp_path / "d.onnx"), names_file)
    frame = np.zeros((64, 128, 3), np.uint8)
    assert detector.predict(frame) == []
    frame[:, 96:] = (255, 60, 60)
    labels = {found.label for found in detector.predict(frame, 0.3)}
    assert labels == {"car"}  # red, so RGB arrived as BGR


@pytest.mark.parametrize("case", ["no file", "not a graph", "other classes", "no names"])
def test_a_bad_detector_is_refused(case, tmp_path, names_file):
    path = tmp_path / "d.onnx"
    if case == "not a graph":
        path.write_bytes(b"nothing of the kind")
    elif case != "no file":
        detector_file(path, classes=7 if case == "other classes" else 3)
    if case == "no names":
        names_file.write_text("\n\n")
    with pytest.raises(InputError):
        Detector(path, names_file).predict(np.zeros((32, 32, 3), np.uint8))


def test_a_frame_of_the_wrong_form_is_refused(tmp_path, names_file):
    with pytest.raises(FrameError):
        Detector(detector_file(tmp_path / "d.onnx"), names_file).predict(np.zeros((32, 32), np.uint8))


def test_a_bad_classifier_is_refused(tmp_path):
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "c.tflite"
    with pytest.raises(InputError):
        Classifier(path)
    path.write_bytes(b"TFL3" * 100)
    with pytest.raises(InputError):
        Classifier(path)


def test_probabilities_however_they_are_stored():
    assert distribution(np.array([128, 128], np.uint8), 1 / 256) == pytest.approx([0.5, 0.5])
    assert distribution(np.array([1, 0, 1], np.uint8), 1 / 256) == pytest.approx([0.5, 0, 0.5])  # the rest rounded away
    assert distribution(np.zeros(4, np.uint8), 1 / 256) == pytest.approx([0.25] * 4)
    assert distribution(np.array([-1.0, 3.0], np.float32)) == pytest.approx([0.01799, 0.98201], abs=1e-5)
    with pytest.raises(InputError):
        distribution(np.array([np.nan, 1.0]))


def test_overlap_of_boxes():
    assert iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (5, 5, 6, 6)) == 0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0


@given(st.binary(max_size=200))
@settings(max_examples=40)
def test_any_list_of_names_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("names") / "n.txt"
    path.write_bytes(data)
    try:
        names = read_names(path)
    except InputError:
        return
    assert all(name.strip() == name and name for name in names)
