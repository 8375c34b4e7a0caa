"""Benches with a bundle that knows the camera's place: its keyframes are predicted from the background picture."""

import json

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra bench")

import edgesem
from edgesem.bundle.bundle import Bundle
from edgesem.cli import main as cli
from edgesem.files import find_pictures, read_picture
from export.bundle.background import add_background
from runtime.bench.link.bench import Options
from runtime.bench.link.live_model import run_live
from runtime.capture.frame import PHOTOS
from tests.support.traces import trace_of
from tests.support.videos import write_video

PLACE = np.ascontiguousarray(read_picture(find_pictures(PHOTOS)[0])[:192, :208])


def frame_of(number: int) -> np.ndarray:
    """The place with a block that stands elsewhere in each frame."""
    frame = PLACE.copy()
    frame[100:130, 10 + 20 * number : 40 + 20 * number] = (200, 40, 40)
    return frame


@pytest.fixture(scope="module")
def frames():
    return [frame_of(number) for number in range(8)]


@pytest.fixture(scope="module")
def bundle(frames, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "mine"
    add_background(Bundle.open(), frames, out, lambda stage, done: None)
    return out


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "place.mp4", frames, codec="libx264", options={"crf": "10"})


def test_bench_video_takes_keyframes_from_the_background_picture(clip, bundle, tmp_path, capsys):
    keys = []
    for more in ([], ["--bundle", str(bundle)]):
        argv = ["bench", "video", "--data", str(clip), "--out", str(tmp_path), "--fps", "10", "--frames", "3", "--json"]
        assert cli.main([*argv, "--codecs", "edgesem-intra,edgesem-reference,x264-veryfast", *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["background_pictures"] == len(more) / 2
        assert {row["background_share"] for row in report["codecs"]["edgesem-intra"]["10"]} == {len(more) / 2}
        assert {row["background_share"] for row in report["codecs"]["edgesem-reference"]["10"]} == {len(more) / 2}
        assert "background_share" not in report["codecs"]["x264-veryfast"]["10"][0]
        keys.append(report["codecs"]["edgesem-intra"]["10"][2]["bytes_per_frame"])
    assert keys[1] < 0.9 * keys[0]


def test_bench_link_sends_keyframes_from_the_background_picture(frames, bundle):
    found = []
    for folder in (None, bundle):
        with edgesem.load(folder) as codec:
            options = Options(trace="", seconds=5, fps=2)
            found.append(run_live("edgesem", images=frames, codec=codec, trace=trace_of(60e3), options=options).figures)
    without, with_one = found
    assert without["background_keyframes"] == 0
    assert with_one["background_keyframes"] == with_one["keyframes"] >= 1
    assert with_one["shown"] == with_one["frames"]
