"""Packed training sets: what goes in comes out, within the bound, and training takes the file for the folder."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgesem.cli import main as cli
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture
from edgesem.quality.metrics import psnr
from export.data.crops import Crops
from export.data.pack import pack, picture_folder, training_pictures

PHOTOS = sorted((Path(__file__).parents[3] / "runtime" / "photos").glob("*.jpg"))


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photographs, one of them in a folder below, and one file that is none."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for path, name in zip(PHOTOS, ("a.jpg", "b.jpg", "below/a.jpg"), strict=False):
        shutil.copy(path, folder / name)
    (folder / "broken.png").write_text("no picture")
    return folder


def test_pictures_that_fit_are_packed_as_they_are(photos, tmp_path, caplog):
    done = pack(photos, tmp_path / "set")
    assert done["pictures"] == 3
    assert done["webp_quality"] is None
    assert done["bytes"] == (tmp_path / "set").stat().st_size
    assert "left out: cannot read" in caplog.text
    frames = [frame for _, frame in training_pictures(tmp_path / "set")]
    wanted = [read_picture(path) for path in find_pictures(photos) if path.suffix == ".jpg"]
    assert all(np.array_equal(a, b) for a, b in zip(frames, wanted, strict=True))


def test_pictures_that_do_not_fit_are_coded_as_well_as_they_fit(photos, tmp_path):
    whole = pack(photos, tmp_path / "whole")["bytes"]
    sizes, qualities = [], []
    for share in (0.7, 0.4):
        done = pack(photos, tmp_path / "set", most_bytes=int(whole * share))
        sizes.append((tmp_path / "set").stat().st_size)
        qualities.append(done["webp_quality"])
        assert 0.4 * whole * share < sizes[-1] <= whole * share
        frames = [frame for _, frame in training_pictures(tmp_path / "set")]
        wanted = [read_picture(path) for path in find_pictures(photos) if path.suffix == ".jpg"]
        assert min(psnr(a, b) for a, b in zip(frames, wanted, strict=True)) > 27
    assert qualities[0] > qualities[1]
    with pytest.raises(InputError, match="pack fewer"):
        pack(photos, tmp_path / "set", most_bytes=20_000)
    assert (tmp_path / "set").stat().st_size == sizes[-1]  # what there was is still there


def test_crops_of_a_packed_set_are_those_of_its_folder(photos, tmp_path):
    pack(photos, tmp_path / "set")
    of_folder, of_file = Crops(photos, 176, 3), Crops(tmp_path / "set", 176, 3)
    assert torch.equal(of_folder.batch(4), of_file.batch(4))


def test_a_packed_set_is_a_folder_for_as_long_as_it_is_used(photos, tmp_path):
    pack(photos, tmp_path / "set")
    with picture_folder(tmp_path / "set") as folder:
        packed = [path.read_bytes() for path in find_pictures(folder)]
        assert packed == [path.read_bytes() for path in find_pictures(photos) if path.name != "broken.png"]
    assert not folder.exists()
    with picture_folder(photos) as folder:
        assert folder == photos
    assert folder.exists()


def test_names_in_a_packed_file_lead_nowhere(tmp_path):
    data = PHOTOS[0].read_bytes()
    with tarfile.open(tmp_path / "set", "w") as archive:
        for name in ("../outside.jpg", str(tmp_path / "absolute.jpg"), "script.sh"):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(PHOTOS[1])
        archive.addfile(link)
    assert len(list(training_pictures(tmp_path / "set"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("cut", [0, 700, -3000])
def test_a_file_that_is_no_packed_set_is_refused(photos, tmp_path, cut):
    pack(photos, tmp_path / "set")
    data = (tmp_path / "set").read_bytes()[:cut] if cut else b"no archive at all"
    (tmp_path / "cut").write_bytes(data[: len(data) // 2] if cut < 0 else data)
    with pytest.raises(InputError):
        for _, _ in training_pictures(tmp_path / "cut"):
            pass


def test_the_command_packs_and_trains_on_the_file(photos, tmp_path, capsys):
    file = tmp_path / "set.tar"
    assert cli.main(["train", "--pack", str(photos), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 3
    argv = ["train", "--data", str(file), "--out", str(tmp_path / "run"), "--board", "--crop", "176", "--batch", "1"]
    argv += ["--minutes", "0.01", "--no-plot", "--threads", "1", "--device", "cpu", "--json"]
    assert cli.main(argv) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["steps_per_s"] > 0
    assert shown["device"] == "cpu"
    assert cli.main(["train", "--pack", str(photos), str(file), "--data", str(photos)]) == 2
    assert cli.main(["train", "--data", str(photos)]) == 2
    assert "--out" in capsys.readouterr().err


def test_large_pictures_are_shrunk_only_where_they_must_be_coded_anew(tmp_path):
    (tmp_path / "photos").mkdir()
    large = Image.open(PHOTOS[0]).resize((1600, 1200))
    large.save(tmp_path / "photos" / "large.jpg", quality=95)
    plain = pack(tmp_path / "photos", tmp_path / "set")["bytes"]
    assert next(training_pictures(tmp_path / "set"))[1].shape == (1200, 1600, 3)
    pack(tmp_path / "photos", tmp_path / "set", most_bytes=plain // 2)
    assert next(training_pictures(tmp_path / "set"))[1].shape == (768, 1024, 3)
