"""Precision of losses: under bfloat16 autocast, as in training, their gradients are those of float32."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgesem.files import find_pictures, read_picture
from export.custom.hf import alignment
from export.metrics.lpips import Lpips
from export.training.codec import CodecNet, TrainConfig, base_distortion, load_weights, loss_of
from export.training.critic import Critic, generator_loss, periodic_detail
from export.training.distill import match_loss
from export.training.losses import ms_ssim, rate
from export.training.ssimulacra2 import distance
from export.training.texture import VggTexture, projected_distance
from runtime.capture.frame import PHOTOS

WEIGHTS = Path(__file__).parents[3] / "export" / "weights"
SIDE = 192
LEAST_COSINE = 0.98


def as_planes(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def photographs(quality: int, part=np.s_[:SIDE, :SIDE]):
    """Real pictures float32 [2, 3, SIDE, SIDE], and what a JPEG of that quality makes of them."""
    frames, coded = [], []
    for path in find_pictures(PHOTOS)[:2]:
        frames.append(np.ascontiguousarray(read_picture(path)[part]))
        data = io.BytesIO()
        Image.fromarray(frames[-1]).save(data, "JPEG", quality=quality)
        coded.append(np.asarray(Image.open(data)))
    return as_planes(frames), as_planes(coded)


@pytest.fixture(scope="module")
def networks(alexnet_weights, vgg_weights) -> SimpleNamespace:
    return SimpleNamespace(lpips=Lpips(alexnet_weights), texture=VggTexture(vgg_weights))


def gradient(loss, at, autocast: bool):
    at = at.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(at).sum()
    return value.item(), torch.autograd.grad(value, at)[0]


def of_lpips(networks, frame):
    def loss(picture):
        with torch.no_grad():
            real = networks.lpips.features(frame)
        return networks.lpips.distance(networks.lpips.features(picture), real)

    return loss


def of_critic(networks, frame):
    torch.manual_seed(0)
    critic = Critic()
    return lambda picture: generator_loss(critic(picture, networks.lpips.features(picture)))


CONFIG = TrainConfig("", 1.0, ms_ssim_from=-1.0, ssimulacra2=0.3, teacher=False)
OF_PICTURES = {
    "squared error": lambda networks, frame: lambda picture: (picture.float() - frame).square().mean(),
    "ms_ssim": lambda networks, frame: lambda picture: ms_ssim(picture, frame, every=2),
    "ssimulacra2": lambda networks, frame: lambda picture: distance(picture, frame),
    "distortion of the base": lambda networks, frame: lambda picture: base_distortion(picture, frame, CONFIG, 1.0)[0],
    "periodic detail": lambda networks, frame: lambda picture: periodic_detail(picture),
    "lpips": of_lpips,
    "critic": of_critic,
    "texture by VGG": lambda networks, frame: lambda picture: networks.texture.distance(picture, frame),
    "texture by random filters": lambda networks, frame: lambda picture: projected_distance(picture, frame),
}
TEXTURED = np.s_[-SIDE:, -SIDE:]
# The least cosine, quality of the JPEG and part of the pictures, where they are others. With trained weights that of
# LPIPS was 0.84 before its first layer computed in float32; random ones are less sensitive. In a sky VGG's is 0.91.
OTHERS = {
    "lpips": (0.995, 60),
    "texture by VGG": (0.95, 30, TEXTURED),
    "texture by random filters": (0.99, 30, TEXTURED),
}


@pytest.mark.parametrize("name", OF_PICTURES)
def test_the_gradient_of_a_loss_of_pictures_is_that_of_float32(name, networks):
    least, *which = OTHERS.get(name, (LEAST_COSINE, 12))
    frame, coded = photographs(*which)
    loss = OF_PICTURES[name](networks, frame)
    torch.manual_seed(1)
    value, wanted = gradient(loss, coded, autocast=False)
    torch.manual_seed(1)
    got_value, got = gradient(loss, coded, autocast=True)
    assert F.cosine_similarity(got.flatten(), wanted.flatten(), 0) > least
    assert got_value == pytest.approx(value, rel=0.02)


def test_the_gradient_of_the_whole_codec_is_that_of_float32():
    net, frame = CodecNet(), photographs(60)[0]
    load_weights(net, WEIGHTS / "codec.safetensors")
    weights = list(net.parameters())

    def of_weights(autocast: bool):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss, _ = loss_of(net, frame, CONFIG, 1.0)
        parts = torch.autograd.grad(loss, weights, allow_unused=True)
        return torch.cat([part.flatten() for part in parts if part is not None])

    assert F.cosine_similarity(of_weights(True), of_weights(False), 0) > LEAST_COSINE


@pytest.mark.parametrize("name", ["rate", "match", "alignment"])
def test_the_gradient_of_a_loss_of_latents_is_that_of_float32(name):
    torch.manual_seed(0)
    latent, other = torch.randn(2, 96, 12, 12) * 3, torch.randn(2, 96, 12, 12)
    loss = {
        "rate": lambda x: rate(x, torch.full_like(x, 20.0)),
        "match": lambda x: match_loss(x, latent + 0.01 * other, torch.rand(1, 96, 1, 1) * 0 + 30),
        "alignment": lambda x: alignment(x, latent + other),
    }[name]
    _, wanted = gradient(loss, latent, autocast=False)
    _, got = gradient(loss, latent, autocast=True)
    assert F.cosine_similarity(got.flatten(), wanted.flatten(), 0) > LEAST_COSINE
