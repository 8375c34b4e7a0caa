"""SSIMULACRA2 as a loss: like the metric, with a gradient that can be followed."""

import numpy as np
import torch

from edgesem.files import read_picture
from edgesem.quality.ssimulacra2 import ssimulacra2
from export.bench.rd.baselines import baseline
from export.training.ssimulacra2 import distance
from runtime.capture.frame import PHOTOS


def pair(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph, and the same in coarser grey levels: float32 [1, 3, 256, 320]."""
    original = read_picture(sorted(PHOTOS.glob("*.jpg"))[1])[:256, :320]
    coarse = original // step * step + step // 2
    return tuple(torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255 for x in (coarse, original))


def test_the_ssimulacra2_loss_is_least_for_equal_pictures_and_rises_with_distortion():
    far = [distance(*pair(step)).item() for step in (1, 16, 48, 96)]
    assert far[0] < 10  # the loss is smooth at zero, which costs it these
    assert far == sorted(far)
    assert far[-1] > 50


def test_the_ssimulacra2_loss_ranks_pictures_as_the_metric_does():
    original = read_picture(sorted(PHOTOS.glob("*.jpg"))[1])[:256, :320]
    jpeg = baseline("jpeg")
    pictures = [jpeg.decode(jpeg.encode(original, quality), original.shape[:2]) for quality in (8, 20, 40, 60)]
    pictures += [original // step * step + step // 2 for step in (16, 48)]
    planes = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255 for x in (original, *pictures)]
    near = np.array([100 - distance(one, planes[0]).item() for one in planes[1:]])
    scores = np.array([ssimulacra2(original, one) for one in pictures])
    assert (near.argsort() == scores.argsort()).all()
    assert np.abs(near - scores).max() < 20
    assert np.corrcoef(near, scores)[0, 1] > 0.98


def test_the_gradient_of_the_ssimulacra2_loss_is_finite_and_leads_to_the_original():
    coarse, original = pair(48)
    for picture in (original.clone(), coarse):
        picture.requires_grad_()
        distance(picture, original).sum().backward()
        assert picture.grad.isfinite().all()
    with torch.no_grad():
        assert distance(coarse - 0.01 * coarse.grad.sign(), original) < distance(coarse, original)
