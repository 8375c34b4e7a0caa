"""Ranges of bytes: outliers are cut off where the others gain by it, and a picture's own 256 values are left alone."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.bundle.runner import OrtRunner
from export.quantization import forms, quantize
from export.quantization.ranges import best_range, rounded
from export.quantization.sensitivity import snr_db


def squared_error(values, low, high):
    return float(np.square(rounded(values, low, high) - values).mean())


def test_a_range_leaves_out_what_would_make_all_other_steps_coarse():
    values = np.random.default_rng(1).normal(0, 1, 20_000).astype(np.float32)
    low, high = best_range(values, float(values.min()), 40.0)  # what was seen once is in no sample
    assert high < 15
    assert low < -2.5
    assert squared_error(values, low, high) < squared_error(values, float(values.min()), 40.0) / 4


def test_a_range_that_is_used_evenly_stays_whole():
    values = np.linspace(-1, 2, 5000, dtype=np.float32)
    assert best_range(values, -1.0, 2.0) == (-1.0, 2.0)
    assert best_range(np.zeros(10, np.float32), 0.0, 0.0) == (0.0, 0.0)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 3.0), (-2.0, 0.0)])
def test_rounding_keeps_zero_and_makes_at_most_256_values(low, high):
    made = rounded(np.linspace(2 * low, 2 * high, 3001, dtype=np.float32), low, high)
    assert len(np.unique(made)) <= 256
    assert (rounded(np.zeros(1, np.float32), low, high) == 0).all()


def test_calibrated_ranges_round_an_encoder_better_than_whole_ones_and_leave_the_picture_alone(tmp_path, frames):
    from onnxruntime.quantization.calibrate import TensorData

    feeds = forms.feeds(Bundle.open(), "encoder", frames)
    prepared = tmp_path / "prepared.onnx"
    quantize.prepare(DEFAULT / "encoder.onnx", prepared)
    ranges = quantize.calibrate(prepared, feeds)
    whole = {name: TensorData(lowest=np.float32(0), highest=np.float32(0)) for name in ranges}
    model = onnx.load(prepared)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ranges if name not in known)
    onnx.save(model, tmp_path / "all.onnx")
    runner = OrtRunner(tmp_path / "all.onnx")
    seen = [{**runner.run(feed), **feed} for feed in feeds]
    for name in whole:
        low, high = min(one[name].min() for one in seen), max(one[name].max() for one in seen)
        whole[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))
    plain, found = OrtRunner(DEFAULT / "encoder.onnx"), {}
    for name, these in {"narrowed": ranges, "whole": whole}.items():
        quantize.quantize(prepared, tmp_path / f"{name}.onnx", these, quantize.CPU)
        int8 = OrtRunner(tmp_path / f"{name}.onnx")
        found[name] = np.mean([snr_db(plain.run(feed), int8.run(feed)) for feed in feeds])
    assert found["narrowed"] > found["whole"] + 0.5
    graph = onnx.load(tmp_path / "narrowed.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = [
        constants[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear" and "frame" in node.input
    ]
    assert steps
    assert all(step == np.float32(1 / 255) for step in steps)
