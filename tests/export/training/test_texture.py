"""Texture losses: what they tell apart. That their gradients are those of float32 is tested in test_precision.py."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgesem.cli import main as cli
from edgesem.files import find_pictures, read_picture
from export.training import texture
from export.training.critic import Judges, PerceptualLoss
from export.training.texture import VggTexture, projected_distance, statistics_distance
from runtime.capture.frame import PHOTOS

SIDE = 128


def photographs():
    """Two pictures float32 [2, 3, SIDE, SIDE], and what is left of them without their fine detail."""
    frames = [read_picture(path) for path in find_pictures(PHOTOS)[:2]]
    frames = [frame[-SIDE:, -SIDE:] for frame in frames]
    planes = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    return planes, F.interpolate(F.avg_pool2d(planes, 4), scale_factor=4.0, mode="bilinear")


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


def test_texture_options_without_a_flow_decoder_are_refused(vgg_weights, tmp_path, capsys):
    argv = ["distill", str(tmp_path), "--out", str(tmp_path / "out"), "--data", str(PHOTOS), "--vgg", str(vgg_weights)]
    assert cli.main(argv) == 2
    assert "--flow" in capsys.readouterr().err
