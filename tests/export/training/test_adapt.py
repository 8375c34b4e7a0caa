"""Adaptation to a camera: what stays, what other pictures may lose, and a bundle that the runtime reads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import edgesem
from edgesem.errors import ExportError, InputError, UsageError
from edgesem.files import find_pictures, read_picture, write_picture
from export.bundle.tables import count_references
from export.cli import adapt as command
from export.cli.options import _weights_folder
from export.data.crops import LEAST_CROP, fitting_crop
from export.training import adapt
from export.training.adapt import AdaptConfig, adapt_codec, bounded, gain
from export.training.codec import CodecNet, load_weights
from runtime.capture.frame import PHOTOS
from tests.support.bundles import quiet
from tests.support.videos import greys, write_video

START = Path(__file__).parents[3] / "export" / "weights" / "codec.safetensors"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("camera")
    for path in find_pictures(PHOTOS)[:2]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def adapted(frames, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "run"
    config = AdaptConfig(data=str(frames), photographs=str(PHOTOS), minutes=0.02, crop=176, batch=2)
    adapt_codec(config, START, out, progress=quiet)
    return out


def test_the_encoder_stays_and_the_rest_learns(adapted):
    before, after = CodecNet(), CodecNet()
    load_weights(before, START)
    load_weights(after, adapted / "weights.safetensors")
    for old, new in zip(before.encoder.parameters(), after.encoder.parameters(), strict=True):
        assert torch.equal(old, new)
    for part in ("decoder", "gains", "context"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True)
        assert any(not torch.equal(old, new) for old, new in pairs), part


def test_weights_are_taken_back_until_other_pictures_lose_no_more_than_allowed(adapted, tmp_path, monkeypatch):
    picture = [read_picture(find_pictures(PHOTOS)[3])[:192, :192]]
    losses = iter([9.0, 2.0])
    monkeypatch.setattr(adapt, "bd_rates", lambda old, new, pictures: {"bd_rate_ms_ssim_percent": next(losses)})
    found = bounded(adapted, START, picture, tmp_path / "codec")
    assert found == {"share": 0.7, "general_bd_rate_ms_ssim_percent": 2.0}
    old, full, mixed = CodecNet(), CodecNet(), CodecNet()
    for net, path in ((old, START), (full, adapted / "weights.safetensors"), (mixed, tmp_path / "codec")):
        load_weights(net, path if path.is_file() else path / "weights.safetensors")
    a, b, c = (net.decoder.last.weight for net in (old, full, mixed))
    assert torch.allclose(c, a + 0.7 * (b - a), atol=1e-6)
    monkeypatch.setattr(adapt, "bd_rates", lambda old, new, pictures: {"bd_rate_ms_ssim_percent": 9.0})
    with pytest.raises(ExportError, match="more than 3 % of bytes"):
        bounded(adapted, START, picture, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_gain_and_loss_are_measured_on_pictures(adapted, tmp_path):
    picture = [read_picture(find_pictures(PHOTOS)[0])[:192, :192]]
    found = gain(adapted, START, picture)
    assert all(-50 < value < 50 for value in found.values())


def test_frames_of_a_clip_are_written_whole_and_kept_apart_from_those_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "clip.mp4"
    write_video(clip, greys(range(0, 50, 10), 208, 176), rate=5)
    folder = command._folder_of(clip, tmp_path / "work")
    first = [path.read_bytes() for path in find_pictures(folder)]
    assert len(first) > 1
    folder.rename(tmp_path / "work" / "seen")
    written = iter(range(1))

    def stopped(frame, path):
        next(written)
        path.write_bytes(b"")

    with monkeypatch.context() as patch:
        patch.setattr("edgesem.files.write_picture", stopped)  # the power goes after a frame
        with pytest.raises(StopIteration):
            command._folder_of(clip, tmp_path / "work")
    assert [path.read_bytes() for path in find_pictures(command._folder_of(clip, tmp_path / "work"))] == first
    write_video(clip, greys(range(60, 110, 10), 208, 176), rate=5)  # Tuesday's, by the same name
    other = command._folder_of(clip, tmp_path / "work")
    assert other != folder
    assert [path.read_bytes() for path in find_pictures(other)] != first
    assert command._folder_of(other, tmp_path / "work") == other


def test_installed_without_the_weights_it_finds_those_of_the_checkout_it_is_called_in(frames, tmp_path, monkeypatch):
    assert _weights_folder(START.parent) == START.parent
    assert _weights_folder(tmp_path / "none") == Path("export/weights")
    monkeypatch.setattr(command, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match="call it in a checkout of edgesem"):
        command.adapt(frames, PHOTOS, tmp_path / "bundle", 0.1)


def test_a_board_that_there_is_not_is_refused_before_any_training(frames, tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        command.adapt(frames, PHOTOS, tmp_path / "bundle", 0.1, weights=START.parent, target="nowhere")
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_and_frames_that_there_are_not_are_told_before_any_training(frames, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        command.adapt(frames, PHOTOS, tmp_path, 0.1, weights=START.parent)
    with pytest.raises(InputError, match="no pictures"):
        command.adapt(frames, PHOTOS, tmp_path / "bundle", 0.1, weights=START.parent, check=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_small_cameras_get_small_crops(tmp_path):
    for index in range(2):
        picture = np.random.default_rng(index).integers(0, 255, (192, 208, 3), np.uint8)
        write_picture(picture, tmp_path / f"{index}.png")
    (tmp_path / "damaged.png").write_bytes(b"none")
    assert fitting_crop(tmp_path, 256) == 192
    assert fitting_crop(tmp_path, 160) == 160
    with pytest.raises(InputError, match="264 pixels"):
        fitting_crop(tmp_path, 256, 1.5, LEAST_CROP)
    counts = count_references(edgesem.load(), tmp_path, lambda done: None, sequences=1)
    assert sum(count.sum() for count in counts) > 0


def test_too_small_a_camera_is_told_before_any_training(tmp_path):
    (tmp_path / "frames").mkdir()
    write_picture(np.zeros((120, 160, 3), np.uint8), tmp_path / "frames" / "0.png")
    with pytest.raises(InputError, match="176 pixels on its short side"):
        command.adapt(tmp_path / "frames", PHOTOS, tmp_path / "bundle", 0.1, weights=START.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


@pytest.mark.long
def test_the_command_makes_a_signed_bundle_and_prints_its_manifest(frames, tmp_path, capsys):
    from edgesem.packet.keys import new_key

    key, camera = tmp_path / "key", tmp_path / "camera"
    new_key(key)
    camera.mkdir()
    for number in range(3):  # as many as a background picture needs
        shutil.copy(find_pictures(frames)[0], camera / f"{number}.jpg")
    given = {"check": PHOTOS, "int8": False, "sign": key, "threads": 1, "json_": True}
    command.adapt(camera, PHOTOS, tmp_path / "bundle", 0.1, **given)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["signature"]
    printed = json.loads(capsys.readouterr().out)
    assert printed["background"]
    assert printed | manifest == printed
    codec = edgesem.load(tmp_path / "bundle")
    picture = np.ascontiguousarray(read_picture(find_pictures(frames)[0])[:160, :160])
    assert codec.decode(codec.encode(picture, quality=0.5)).shape == picture.shape
