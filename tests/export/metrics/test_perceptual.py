"""Perceptual metrics: LPIPS by AlexNet and VGG16, DISTS, the distance in its manner, and files of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edgesem.errors import InputError, UsageError
from export.bench.rd import measure as rd
from export.metrics.dists import Dists, DistsLike
from export.metrics.lpips import Lpips, LpipsVgg
from export.metrics.weights import convolutions, read_weights
from tests.support.loss_weights import vgg_arrays
from tests.support.rd import photo


@pytest.fixture(scope="module")
def lpips(alexnet_weights):
    return Lpips(alexnet_weights)


def test_lpips_grows_with_damage_from_zero(lpips):
    frame = photo(64, 96)
    values = [lpips(frame, frame // step * step) for step in (1, 16, 128)]
    assert values[0] == 0
    assert 0 < values[1] < values[2]


def test_a_file_without_lpips_weights_is_refused(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"not an archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("bad.npz", "other.npz", "missing.npz", "text.mp4"):
        with pytest.raises(InputError, match=name) as said:
            Lpips(tmp_path / name)
        assert len(str(said.value).splitlines()) == 1  # torch would add a page of advice


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All thirteen as torchvision names them; and the weights of DISTS and LPIPS as their authors do, all random."""
    folder, random = tmp_path_factory.mktemp("whole"), np.random.default_rng(2)
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of the convolutions among torchvision's layers
    state = {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}
    for name, value in vgg_arrays(13).items():
        layer, part = name.split(".")
        kind = {"w": "weight", "b": "bias"}[part]
        state[f"features.{places[int(layer[4:])]}.{kind}"] = torch.from_numpy(value)
    torch.save(state, folder / "vgg16.pth")
    dists = {name: torch.from_numpy(random.random((1, 1475, 1, 1)).astype("f4")) for name in ("alpha", "beta")}
    torch.save(dists, folder / "dists.pt")
    heads = {
        f"lin{k}.model.1.weight": torch.from_numpy(random.random((1, width, 1, 1)).astype("f4"))
        for k, width in enumerate((64, 128, 256, 512, 512))
    }
    torch.save(heads, folder / "lpips.pth")
    return folder


def damaged(levels):
    frame = photo(96, 128)
    return frame, frame // levels * levels


# What DISTS_pytorch 0.1 and lpips 0.1.4 give with the same weights
@pytest.mark.parametrize(("levels", "dists", "lpips_vgg"), [(16, 0.026777, 0.029546), (128, 0.326789, 0.553729)])
def test_dists_and_lpips_vgg_give_the_numbers_of_their_authors_programs(whole, levels, dists, lpips_vgg):
    assert Dists(whole / "vgg16.pth", whole / "dists.pt")(*damaged(levels)) == pytest.approx(dists, abs=2e-5)
    assert LpipsVgg(whole / "vgg16.pth", whole / "lpips.pth")(*damaged(levels)) == pytest.approx(lpips_vgg, abs=2e-5)


def test_equal_pictures_are_no_distance_apart(whole):
    frame = photo(96, 128)
    assert Dists(whole / "vgg16.pth", whole / "dists.pt")(frame, frame) == pytest.approx(0, abs=1e-5)
    assert LpipsVgg(whole / "vgg16.pth", whole / "lpips.pth")(frame, frame) == 0


def test_weights_are_the_same_from_each_kind_of_file(whole, tmp_path):
    arrays, digest = read_weights(whole / "vgg16.pth")
    assert convolutions(arrays) == 13
    assert (arrays["conv12.w"] == vgg_arrays(13)["conv12.w"]).all()
    np.savez(tmp_path / "vgg16.npz", **arrays)
    save_file(arrays, tmp_path / "vgg16.safetensors")
    for name in ("vgg16.npz", "vgg16.safetensors"):
        again, other = read_weights(tmp_path / name)
        assert again.keys() == arrays.keys()
        assert (again["conv5.w"] == arrays["conv5.w"]).all()
        assert other != digest


def test_files_choose_the_measures(vgg_weights, whole, tmp_path):
    def names(*paths, **more):
        return [name for name, _, _ in rd.PictureMetrics.create(*paths, **more).networks]

    network, heads = whole / "vgg16.pth", whole / "lpips.pth"
    assert names(None, vgg_weights) == ["dists_like"]
    assert names(None, network) == ["dists_like"]
    assert names(None, network, dists=whole / "dists.pt", lpips_vgg=heads) == ["dists", "lpips_vgg"]
    np.savez(tmp_path / "both.npz", **read_weights(network, heads)[0])
    assert names(None, tmp_path / "both.npz") == ["dists_like", "lpips_vgg"]
    with pytest.raises(UsageError, match="--vgg"):
        names(None, dists=whole / "dists.pt")
    with pytest.raises(InputError, match=r"conv7\.w"):
        names(None, vgg_weights, dists=whole / "dists.pt")


def test_a_file_of_another_network_than_dists_was_made_with_is_refused(whole, tmp_path):
    np.savez(tmp_path / "short.npz", alpha=np.ones(4), beta=np.ones(4))
    with pytest.raises(InputError, match=r"short\.npz"):
        Dists(whole / "vgg16.pth", tmp_path / "short.npz")


def test_the_dists_like_measure_asks_for_texture_and_not_for_its_place(vgg_weights):
    distance, random = DistsLike(vgg_weights), np.random.default_rng(1)
    picture, other = (np.clip(random.normal(128, 40, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(2))
    smooth = np.full_like(picture, 128)
    assert distance(picture, picture) == pytest.approx(0, abs=1e-4)
    assert distance(picture, other) < distance(picture, smooth)


def test_a_file_without_vgg_weights_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz"):
        DistsLike(tmp_path / "other.npz")


def test_metrics_complete_what_was_measured_before(vgg_weights):
    picture = photo(64, 96)
    known = rd.PictureMetrics.create(None)(picture, picture // 16 * 16, None)
    metrics = rd.PictureMetrics.create(None, vgg_weights)
    assert known.dists_like is None
    assert not metrics.all_in(known)
    full = metrics(picture, picture // 16 * 16, known)
    assert metrics.all_in(full)
    assert full.dists_like > 0
    assert full.psnr == known.psnr
