"""Precision of losses: under bfloat16 autocast, as in training, their gradients are those of float32."""

import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra export")

from PIL import Image  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgesem.files import find_pictures, read_picture  # noqa: E402
from export.custom.hf import alignment  # noqa: E402
from export.metrics.lpips import Lpips  # noqa: E402
from export.training.codec import CodecNet, TrainConfig, base_distortion, load_weights, loss_of  # noqa: E402
from export.training.critic import Critic, generator_loss, periodic_detail  # noqa: E402
from export.training.distill import match_loss  # noqa: E402
from export.training.losses import ms_ssim, rate  # noqa: E402
from export.training.ssimulacra2 import distance  # noqa: E402
from runtime.capture.frame import PHOTOS  # noqa: E402

WEIGHTS = Path(__file__).parents[3] / "export" / "weights"
SIDE = 192
LEAST_COSINE = 0.98
# With trained weights it was 0.84 before the first layer was computed in float32; random ones are less sensitive.
LEAST_LPIPS = 0.995


def as_planes(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def photographs(quality: int):
    """Real pictures float32 [2, 3, SIDE, SIDE], and what a JPEG of that quality makes of them."""
    frames, coded = [], []
    for path in find_pictures(PHOTOS)[:2]:
        frames.append(np.ascontiguousarray(read_picture(path)[:SIDE, :SIDE]))
        data = io.BytesIO()
        Image.fromarray(frames[-1]).save(data, "JPEG", quality=quality)
        coded.append(np.asarray(Image.open(data)))
    return as_planes(frames), as_planes(coded)


@pytest.fixture(scope="module")
def lpips(tmp_path_factory) -> Lpips:
    """LPIPS with random weights that keep the size of a signal, as trained ones do."""
    random, arrays = np.random.default_rng(0), {}
    shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    for index, shape in enumerate(shapes):
        arrays[f"conv{index}.w"] = random.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"conv{index}.b"] = np.zeros(shape[0])
        arrays[f"lin{index}"] = np.full(shape[0], 1 / shape[0])
    path = tmp_path_factory.mktemp("lpips") / "alex.npz"
    np.savez(path, **{name: value.astype(np.float16) for name, value in arrays.items()})
    return Lpips(path)


def gradient(loss, at, autocast: bool):
    at = at.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(at).sum()
    return value.item(), torch.autograd.grad(value, at)[0]


def of_lpips(lpips, frame):
    def loss(picture):
        with torch.no_grad():
            real = lpips.features(frame)
        return lpips.distance(lpips.features(picture), real)

    return loss


def of_critic(lpips, frame):
    torch.manual_seed(0)
    critic = Critic()
    return lambda picture: generator_loss(critic(picture, lpips.features(picture)))


CONFIG = TrainConfig("", 1.0, ms_ssim_from=-1.0, ssimulacra2=0.3, teacher=False)
OF_PICTURES = {
    "squared error": lambda lpips, frame: lambda picture: (picture.float() - frame).square().mean(),
    "ms_ssim": lambda lpips, frame: lambda picture: ms_ssim(picture, frame, every=2),
    "ssimulacra2": lambda lpips, frame: lambda picture: distance(picture, frame),
    "distortion of the base": lambda lpips, frame: lambda picture: base_distortion(picture, frame, CONFIG, 1.0)[0],
    "periodic detail": lambda lpips, frame: lambda picture: periodic_detail(picture),
    "lpips": of_lpips,
    "critic": of_critic,
}


@pytest.mark.parametrize("name", OF_PICTURES)
def test_the_gradient_of_a_loss_of_pictures_is_that_of_float32(name, lpips):
    quality, least = (60, LEAST_LPIPS) if name == "lpips" else (12, LEAST_COSINE)
    frame, coded = photographs(quality)
    loss = OF_PICTURES[name](lpips, frame)
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
