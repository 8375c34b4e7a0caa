"""bench video: what it measures, on a clip made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgesem.cli import main as cli
from edgesem.errors import InputError
from export.bench.video import peers
from export.bench.video.flicker import (
    change_in_still_parts,
    deviation_in_still_parts,
    figures,
    times_the_clips,
)
from export.bench.video.measure import share_at_equal_quality
from export.data.clips import read_clip
from export.data.sequences import LENGTH, Sequences
from export.networks.codec import Encoder
from tests.support.videos import write_video

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A still gradient with a little noise and a square that moves, 2 s at 10 frames a second."""
    random = np.random.default_rng(0)
    gradient = np.tile(np.arange(208, dtype=np.uint8)[None, :, None], (176, 1, 3))
    pictures = [gradient + random.integers(0, 3, gradient.shape, np.uint8) for _ in range(20)]
    for index, picture in enumerate(pictures):
        picture[60:100, 4 * index : 4 * index + 40] = (250, 40, 40)
    return write_video(tmp_path_factory.mktemp("clip") / "square.mp4", pictures, codec="libx264", options={"crf": "10"})


def test_frames_come_at_the_rate_and_from_the_part_that_is_asked_for(clip):
    frames, rate = read_clip(clip, rate_hz=2)
    assert (len(frames), rate, frames[0].shape) == (4, 2, (176, 208, 3))
    late, _ = read_clip(clip, rate_hz=100, start=0.5)
    assert len(late) == 10
    assert np.abs(late[0][80].astype(int) - read_clip(clip, rate_hz=10)[0][10][80]).max() == 0


def test_sequences_of_a_short_clip_are_all_of_one_length(clip):
    source = Sequences(Encoder(), PHOTOS, clip.parent, crop=128, from_clips=1.0, until=0.9, seed=4)
    assert {len(source.next()) for _ in range(20)} == {LENGTH}


def test_what_is_no_clip_is_said_so(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no clip")
    with pytest.raises(InputError):
        read_clip(tmp_path / "x.mp4", rate_hz=1)


def test_flicker_looks_at_unchanged_parts_only():
    still = np.full((4, 8, 8, 3), 90, np.uint8)
    still[:, :4] = np.random.default_rng(0).integers(0, 255, (4, 4, 8, 3))
    assert deviation_in_still_parts(list(still), list(still)) == 0
    moved = still + np.array([0, 3, 0, 3], np.uint8)[:, None, None, None]
    assert deviation_in_still_parts(list(still), list(moved)) == pytest.approx(1.5)


@pytest.fixture(scope="module")
def passing():
    """A grey scene of 128x160 pixels with noise that a bright square crosses, 5 frames; and the square's mask."""
    random = np.random.default_rng(0)
    frames, masks = [], []
    for index in range(5):
        scene = np.full((128, 160), 100.0)
        mask = np.zeros((128, 160), bool)
        mask[48:80, 32 * index : 32 * index + 32] = True
        scene[mask] = 230
        noisy = scene + random.normal(0, 1, scene.shape)
        frames.append(np.repeat(noisy.round()[..., None], 3, 2).astype(np.uint8))
        masks.append(mask)
    return frames, masks


def test_a_perfect_picture_flickers_as_much_as_the_clip_and_a_denoised_one_less(passing):
    frames, masks = passing
    own = change_in_still_parts(frames, frames)
    assert 1.0 < own < 1.3  # two noises of deviation 1 differ by 2 / sqrt(pi)
    assert times_the_clips(own, own) == 1
    smooth = [np.where(mask[..., None], frame, np.uint8(100)) for frame, mask in zip(frames, masks, strict=True)]
    assert times_the_clips(change_in_still_parts(frames, smooth), own) == 0


def test_ground_that_follows_a_passing_square_flickers_many_times_as_much_as_the_clip(passing):
    frames, masks = passing
    own = change_in_still_parts(frames, frames)
    follows = []
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        lit = np.where(mask, 0, 8 * (index % 2))[..., None]  # all but the square changes by 8 grey levels and back
        follows.append((frame + lit).astype(np.uint8))
    assert 6 < times_the_clips(change_in_still_parts(frames, follows), own) < 8
    assert 3 < figures(frames, follows)["flicker_times"] < 5
    inside = []
    for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):  # the square itself may do as it likes
        inside.append(np.where(mask[..., None], np.uint8(200 + 50 * (index % 2)), frame))
    assert times_the_clips(change_in_still_parts(frames, inside), own) == pytest.approx(1, abs=0.05)


def test_a_clip_without_still_parts_or_without_noise_has_no_figure():
    random = np.random.default_rng(1)
    wild = list(random.integers(0, 255, (3, 32, 32, 3), np.uint8))
    assert np.isnan(change_in_still_parts(wild, wild))
    calm = [np.full((32, 32, 3), 90, np.uint8)] * 3
    assert np.isnan(times_the_clips(change_in_still_parts(calm, wild), change_in_still_parts(calm, calm)))


def test_a_codec_of_half_the_bytes_has_a_share_of_one_half():
    curve = [{"bytes_per_frame": 100.0 * 2**k, "ms_ssim": 1 - 0.2 / 2**k} for k in range(4)]
    half = [{**row, "bytes_per_frame": row["bytes_per_frame"] / 2} for row in curve]
    assert share_at_equal_quality(half, curve) == pytest.approx(0.5, rel=1e-3)
    by_gmsd = [[{**row, "gmsd": 0.1 * row["ms_ssim"] ** -9} for row in rows] for rows in (half, curve)]
    assert share_at_equal_quality(*by_gmsd, measure="gmsd") == pytest.approx(0.5, rel=1e-3)


def test_packets_that_refer_are_looked_at_closely(clip, tmp_path):
    out = tmp_path / "out"
    more = ["--fps", "2", "--codecs", "none", "--frames", "3", "--probe", "0", "--middle", "176"]
    assert cli.main(["bench", "video", "--data", str(clip), "--out", str(out), *more]) == 0
    found = json.loads((out / "video.json").read_text())["probe"]["square.mp4"]["2"]
    assert found["sender"]["time_ratio_p50"] > 0
    assert 0 < found["again_share_of_bytes"] < 0.4
    assert len(found["sender"]["ms_ssim"]["reference"]) == 3
    assert found["flicker"]["0"]["clip"] < 2
    assert found["flicker_times"]["0"]["clip"] == found["flicker_change_times"]["0"]["clip"] == 1
    unchanged = found["unchanged"]
    assert 0.3 < unchanged["still_share_of_positions"] < 1  # all but the square and what it leaves behind
    assert unchanged["still_share_of_bits"] < unchanged["still_share_of_positions"]


def test_steps_that_there_are_not_are_refused(clip, tmp_path, capsys):
    arguments = ["bench", "video", "--data", str(clip), "--out", str(tmp_path), "--probe", "0,9"]
    assert cli.main(arguments) == 2
    assert "--probe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--codecs", "x264-nix"], "libx264"),
        (["--codecs", "x264-nix", "--out", "{clip}/results"], "cannot write into the folder"),  # said before coding
        (["--fps", "nan"], "--fps"),
        (["--fps", "5,1e9"], "--fps"),
        (["--data", "{clip}.gone"], "No such file"),
    ],
)
def test_what_cannot_be_measured_is_one_line(clip, tmp_path, capsys, more, said):
    argv = ["bench", "video", "--data", str(clip), "--out", str(tmp_path), "--fps", "2", "--frames", "2"]
    argv += ["--codecs", "x264-veryfast", *(part.format(clip=clip) for part in more), "--json"]
    assert cli.main(argv) in (1, 2)
    assert said in json.loads(capsys.readouterr().out)["error"]["message"]


def test_the_command_writes_json_and_a_plot(clip, tmp_path, capsys):
    out = tmp_path / "out"
    names = "edgesem-reference,x264-veryfast,avif-s8"
    more = ["--fps", "2", "--codecs", names, "--frames", "3"]
    assert cli.main(["bench", "video", "--data", str(clip), "--out", str(out), *more]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    report = json.loads((out / "video.json").read_text())
    rows = report["codecs"]
    assert set(rows) == set(names.split(","))
    for found in rows.values():
        figures = {"bytes_per_frame", "ms_ssim", "psnr", "gmsd", "flicker_times", "flicker_change_times", "inter_cpu_s"}
        assert figures <= set(found["2"][0])
        assert found["2"][-1]["ms_ssim"] > found["2"][0]["ms_ssim"] - 1e-3
        assert found["2"][-1]["gmsd"] < found["2"][0]["gmsd"]
    assert report["untrained"] == [one for one in ("ms_ssim", "psnr", "gmsd") if one not in report["trained_on"]]
    assert "gmsd" in report["untrained"]
    for other in ("x264-veryfast", "avif-s8"):
        pair = f"edgesem-reference / {other}"
        ours, theirs = (np.median([row["inter_cpu_s"] for row in rows[name]["2"]]) for name in pair.split(" / "))
        assert report["share_of_encode_time"][pair]["2"] == pytest.approx(ours / theirs)
        assert f"{ours / theirs:.0%}" in printed
        assert set(report["share_of_bytes_by_gmsd"][pair]) == {"2"}
    assert (out / "video.png").stat().st_size > 1000
    for row in report["still"]["square.mp4"].values():
        kinds = ("bytes", "share", "ms_ssim", "gmsd", "encode_cpu_s")
        assert all(row[f"{scene}_{kind}"] > 0 for scene in ("identical", "noisy") for kind in kinds)
    assert "identical" in printed
    assert "noisy" in printed


def test_a_codec_of_the_usual_ones_that_is_not_there_has_a_row_that_says_so(clip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("export.cli.video._QUICK", "aom-rt8,x264-veryfast")
    monkeypatch.setitem(peers._LIBRARIES, "aom", "libnone")
    more = ["--data", str(clip), "--out", str(tmp_path), "--fps", "2", "--frames", "2"]
    assert cli.main(["bench", "video", *more]) == 0
    assert "not measured, because" in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "video.json").read_text())
    assert set(report["codecs"]) == {"x264-veryfast"}
    assert "libnone" in report["missing"]["aom-rt8"]
    assert 0 < report["still"]["square.mp4"]["x264-veryfast"]["identical_share"] < 1
