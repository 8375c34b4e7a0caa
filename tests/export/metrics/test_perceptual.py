"""Perceptual metrics: LPIPS, and the distance in the manner of DISTS."""

from __future__ import annotations

import numpy as np
import pytest

from edgesem.errors import InputError
from export.bench.rd import measure as rd
from tests.support.rd import photo


@pytest.fixture(scope="module")
def lpips(tmp_path_factory):
    """LPIPS with random weights of the true shapes: what is equal stays equal, and nothing else does."""
    pytest.importorskip("torch", reason="pip install 'edgesem[export]'")
    from export.metrics.lpips import Lpips

    random = np.random.default_rng(0)
    shapes = [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3)]
    arrays = {}
    for index, shape in enumerate(shapes):
        arrays[f"conv{index}.w"] = (random.normal(size=shape) * 0.05).astype(np.float16)
        arrays[f"conv{index}.b"] = np.zeros(shape[0], np.float16)
        arrays[f"lin{index}"] = np.full(shape[0], 1 / shape[0], np.float16)
    path = tmp_path_factory.mktemp("lpips") / "weights.npz"
    np.savez(path, **arrays)
    return Lpips(path)


def test_lpips_grows_with_damage_from_zero(lpips):
    frame = photo(64, 96)
    values = [lpips(frame, frame // step * step) for step in (1, 16, 128)]
    assert values[0] == 0
    assert 0 < values[1] < values[2]


def test_a_file_without_lpips_weights_is_refused(tmp_path):
    pytest.importorskip("torch", reason="pip install 'edgesem[export]'")
    from export.metrics.lpips import Lpips

    (tmp_path / "bad.npz").write_bytes(b"not an archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("bad.npz", "other.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            Lpips(tmp_path / name)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """VGG's first layers with random weights of the true shapes."""
    pytest.importorskip("torch", reason="pip install 'edgesem[export]'")
    random, arrays, inputs = np.random.default_rng(0), {}, 3
    for index, width in enumerate((64, 64, 128, 128, 256, 256, 256)):
        arrays[f"conv{index}.w"] = (random.normal(size=(width, inputs, 3, 3)) * (2 / inputs / 9) ** 0.5).astype("f2")
        arrays[f"conv{index}.b"] = np.zeros(width, np.float16)
        inputs = width
    path = tmp_path_factory.mktemp("vgg") / "weights.npz"
    np.savez(path, **arrays)
    return path


def test_the_dists_like_measure_asks_for_texture_and_not_for_its_place(vgg):
    from export.metrics.dists import DistsLike

    distance, random = DistsLike(vgg), np.random.default_rng(1)
    picture, other = (np.clip(random.normal(128, 40, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(2))
    smooth = np.full_like(picture, 128)
    assert distance(picture, picture) == pytest.approx(0, abs=1e-4)
    assert distance(picture, other) < distance(picture, smooth)


def test_a_file_without_vgg_weights_is_refused(tmp_path):
    pytest.importorskip("torch", reason="pip install 'edgesem[export]'")
    from export.metrics.dists import DistsLike

    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz"):
        DistsLike(tmp_path / "other.npz")


def test_metrics_complete_what_was_measured_before(vgg):
    picture = photo(64, 96)
    known = rd.PictureMetrics.create(None)(picture, picture // 16 * 16, None)
    metrics = rd.PictureMetrics.create(None, vgg)
    assert known.dists_like is None
    assert not metrics.all_in(known)
    full = metrics(picture, picture // 16 * 16, known)
    assert metrics.all_in(full)
    assert full.dists_like > 0
    assert full.psnr == known.psnr
