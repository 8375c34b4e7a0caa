"""Texture losses: what they tell apart, and that their gradients are the real ones."""

import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra export")

from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgesem.cli import main as cli  # noqa: E402
from edgesem.errors import InputError  # noqa: E402
from edgesem.files import find_pictures, read_picture  # noqa: E402
from export.training import texture  # noqa: E402
from export.training.critic import Judges, PerceptualLoss  # noqa: E402
from export.training.texture import VggTexture, projected_distance, statistics_distance  # noqa: E402
from runtime.capture.frame import PHOTOS  # noqa: E402

SIDE = 128


@pytest.fixture(scope="module")
def vgg_weights(tmp_path_factory) -> Path:
    """VGG16 with random weights that keep the size of a signal, as trained ones do."""
    random, arrays = np.random.default_rng(0), {}
    widths = [3, 64, 64, 128, 128, 256, 256, 256]
    for index in range(7):
        shape = (widths[index + 1], widths[index], 3, 3)
        arrays[f"conv{index}.w"] = (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float16)
        arrays[f"conv{index}.b"] = np.zeros(shape[0], np.float16)
    path = tmp_path_factory.mktemp("vgg") / "vgg.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def alexnet_weights(tmp_path_factory) -> Path:
    random, arrays = np.random.default_rng(0), {}
    shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    for index, shape in enumerate(shapes):
        arrays[f"conv{index}.w"] = (random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float16)
        arrays[f"conv{index}.b"] = np.zeros(shape[0], np.float16)
        arrays[f"lin{index}"] = np.full(shape[0], 1 / shape[0])
    path = tmp_path_factory.mktemp("lpips") / "alex.npz"
    np.savez(path, **arrays)
    return path


def photographs():
    """Two pictures float32 [2, 3, SIDE, SIDE], and what is left of them without their fine detail."""
    frames = [read_picture(path) for path in find_pictures(PHOTOS)[:2]]
    frames = [frame[-SIDE:, -SIDE:] for frame in frames]
    planes = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    return planes, F.interpolate(F.avg_pool2d(planes, 4), scale_factor=4.0, mode="bilinear")


def as_jpeg(planes):
    """What a JPEG of quality 30 makes of pictures float32 [B, 3, H, W]."""
    coded = []
    for frame in (planes * 255).byte().permute(0, 2, 3, 1).numpy():
        data = io.BytesIO()
        Image.fromarray(frame).save(data, "JPEG", quality=30)
        coded.append(np.asarray(Image.open(data)))
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).float() / 255


def seeded(distance):
    """A distance whose random crops and filters are the same at each call."""

    def again(picture, original):
        torch.manual_seed(5)
        return distance(picture, original)

    return again


def distances(vgg_weights):
    return {"vgg": seeded(VggTexture(vgg_weights).distance), "projections": seeded(projected_distance)}


def test_the_same_texture_at_another_place_costs_less_than_none():
    torch.manual_seed(0)
    there, elsewhere = torch.randn(2, 1, 8, 64, 64)
    none = torch.zeros_like(there)
    far = statistics_distance(elsewhere, there, 16)
    assert far < 0.05 * statistics_distance(none, there, 16)
    assert far < 0.05 * (elsewhere - there).square().mean()
    brighter = statistics_distance(there + 1, there, 16)  # a mean that is off by the energy's root
    assert brighter.item() == pytest.approx(1 / 1.1, rel=0.05)


@pytest.mark.parametrize("name", ["vgg", "projections"])
def test_a_texture_loss_is_zero_for_the_original_and_large_for_a_blurred_picture(name, vgg_weights):
    distance, (frame, blurred) = distances(vgg_weights)[name], photographs()
    assert distance(frame, frame).tolist() == pytest.approx([0, 0], abs=1e-6)
    torch.manual_seed(0)
    noisy = frame + 0.003 * torch.randn_like(frame)
    assert (distance(blurred, frame) > distance(noisy, frame)).all()


@pytest.mark.parametrize(("name", "least"), [("vgg", 0.95), ("projections", 0.99)])
def test_the_gradient_of_a_texture_loss_is_that_of_float32(name, least, vgg_weights):
    distance, frame = distances(vgg_weights)[name], photographs()[0]
    coded = as_jpeg(frame)

    def gradient(autocast):
        at = coded.clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = distance(at, frame).sum()
        return value.item(), torch.autograd.grad(value, at)[0]

    value, wanted = gradient(False)
    got_value, got = gradient(True)
    assert wanted.isfinite().all()
    assert F.cosine_similarity(got.flatten(), wanted.flatten(), 0) > least
    assert got_value == pytest.approx(value, rel=0.02)
    step = 1e-2 * wanted / wanted.abs().max()  # and it is a gradient: the loss falls as it says
    before, after = distance(coded + step, frame).sum(), distance(coded - step, frame).sum()
    assert (before - after).item() == pytest.approx(2 * (wanted * step).sum().item(), rel=0.2)


def test_flat_pictures_have_finite_gradients(vgg_weights):
    for distance in distances(vgg_weights).values():
        for level in (0.0, 0.5):
            at = torch.full((1, 3, SIDE, SIDE), level, requires_grad=True)
            distance(at, torch.full((1, 3, SIDE, SIDE), 0.5)).sum().backward()
            assert at.grad.isfinite().all()


def test_random_filters_are_others_at_each_call():
    frame, blurred = photographs()
    assert projected_distance(blurred, frame).tolist() != projected_distance(blurred, frame).tolist()


def test_texture_joins_the_cost_of_a_drawn_picture_only_where_it_is_asked_for(
    vgg_weights, alexnet_weights, monkeypatch
):
    frame, blurred = photographs()
    plain = Judges(lpips=str(alexnet_weights), critic_from=2.0)
    both = Judges(lpips=str(alexnet_weights), critic_from=2.0, vgg=str(vgg_weights), projection_weight=3.0)
    cost, figures = PerceptualLoss(plain).cost(blurred, frame, 0.0, None)
    assert "vgg" not in figures
    assert "projections" not in figures
    monkeypatch.setattr(texture, "SIDE", 64)
    more, figures = PerceptualLoss(both).cost(blurred, frame, 0.0, None)
    assert more.mean() > cost.mean()
    assert figures["vgg"] > 0
    assert figures["projections"] > 0


def test_weights_that_are_none_of_vgg_are_refused(alexnet_weights):
    with pytest.raises(InputError, match="no VGG16 weights"):
        VggTexture(alexnet_weights)


def test_texture_options_without_a_flow_decoder_are_refused(vgg_weights, tmp_path, capsys):
    argv = ["distill", str(tmp_path), "--out", str(tmp_path / "out"), "--data", str(PHOTOS), "--vgg", str(vgg_weights)]
    assert cli.main(argv) == 2
    assert "--flow" in capsys.readouterr().err
