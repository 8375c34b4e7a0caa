"""Pixel input: an int8 encoder fed with bytes gives the bits that it gives for floats; other graphs are left alone."""

import numpy as np
import onnx
import pytest

import edgesem
from edgesem.bundle.bundle import DEFAULT
from edgesem.bundle.pixel_input import feed_of, with_pixel_input
from edgesem.bundle.runner import OrtRunner
from edgesem.entropy import kernel

ENCODER = DEFAULT / "encoder.int8.onnx"
pytestmark = pytest.mark.skipif(not ENCODER.is_file(), reason="the default bundle has no int8 encoder")


def frame(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("with_kernel", [True, False])
def test_latents_are_the_same_to_the_bit(compiled, monkeypatch, with_kernel):
    monkeypatch.setattr(kernel, "load", lambda: compiled if with_kernel else None)
    floats, pixels = OrtRunner(ENCODER), OrtRunner(ENCODER, pixels=True)
    assert pixels.takes_pixels
    assert not floats.takes_pixels
    for height, width in ((16, 16), (16, 48), (96, 32), (128, 160)):
        picture = frame(height, width)
        picture[: height // 2] //= 64  # flat and dark
        ours, theirs = (one.run(feed_of(picture, pixels=one.takes_pixels)) for one in (pixels, floats))
        assert np.array_equal(ours["latent"], theirs["latent"])


def test_a_codec_gives_what_one_with_a_lent_runner_of_floats_does():
    plain, lent = edgesem.load(precision="int8"), edgesem.load()
    lent.use("encoder", OrtRunner(ENCODER))
    for height, width in ((70, 33), (64, 64)):
        picture = frame(height, width)[:, ::-1]
        assert np.array_equal(plain.analyze(picture).values, lent.analyze(picture).values)
    assert plain._graphs.runner("encoder.onnx").takes_pixels


def test_a_graph_of_floats_stays_as_it_is():
    assert with_pixel_input(DEFAULT / "encoder.onnx") is None
    assert not OrtRunner(DEFAULT / "encoder.onnx", pixels=True).takes_pixels
    assert with_pixel_input(DEFAULT / "manifest.json") is None


def changed(change, tmp_path):
    model = onnx.load(ENCODER)
    change(model.graph)
    path = tmp_path / "encoder.int8.onnx"
    onnx.save(model, path)
    return path


def node_that(graph, **wanted):
    return next(one for one in graph.node if all(getattr(one, name) == value for name, value in wanted.items()))


def first_conv(graph):
    return node_that(graph, op_type="Conv")


def attribute(node, name):
    return next(one for one in node.attribute if one.name == name)


def constant(graph, name):
    return next(one for one in graph.initializer if one.name == name)


def set_item(items, index, value):
    items[index] = value


CHANGES = {
    "another step of the quantizer": lambda graph: set_item(constant(graph, "frame_scale").float_data, 0, 0.01),
    "another zero": lambda graph: set_item(constant(graph, "frame_zero_point").int32_data, 0, 3),
    "other strides": lambda graph: set_item(attribute(first_conv(graph), "strides").ints, 0, 2),
    "padding": lambda graph: set_item(attribute(first_conv(graph), "pads").ints, 0, 1),
    "another reader": lambda graph: graph.node.append(onnx.helper.make_node("Identity", ["frame"], ["more"])),
    "another order": lambda graph: set_item(attribute(node_that(graph, op_type="Transpose"), "perm").ints, 0, 2),
    "no convolution": lambda graph: setattr(first_conv(graph), "op_type", "ConvTranspose"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_of_another_form_stays_as_it_is(change, tmp_path):
    assert with_pixel_input(changed(lambda _: None, tmp_path)) is not None
    assert with_pixel_input(changed(CHANGES[change], tmp_path)) is None


def test_bytes_that_are_no_graph_are_left_to_onnx_runtime(tmp_path):
    whole, path = ENCODER.read_bytes(), tmp_path / "encoder.int8.onnx"
    for end in (0, 7, 900, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with_pixel_input(path)  # a graph or none, and no error of another kind
