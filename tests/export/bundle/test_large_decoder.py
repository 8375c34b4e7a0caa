"""The large decoder in a bundle: added after training, chosen when a picture is drawn, and no change to packets."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import edgesem
from edgesem.bundle.bundle import DEFAULT, LARGE_DECODER, Bundle
from edgesem.cli import main as cli
from edgesem.errors import UsageError
from edgesem.files import read_picture
from export.training.codec import TrainConfig
from runtime.protocol.topics import Topics
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.frame_drawer import FrameDrawer
from runtime.receiver.streams import Streams
from runtime.receiver.synthesis import SynthesisOptions

ROOT = Path(__file__).parents[3]
PHOTOS = ROOT / "runtime" / "photos"
TOPICS = Topics("home", "cam", "main")


def run_of_codec(folder: Path, weights: Path | None = None) -> Path:
    """The run folder of the codec that ships, or of other weights."""
    folder.mkdir()
    config = TrainConfig(data=str(PHOTOS), minutes=1, teacher=False)
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    shutil.copy(weights or ROOT / "export" / "weights" / "codec.safetensors", folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of a large decoder, and a copy of the bundle that ships to add it to."""
    folder = tmp_path_factory.mktemp("large")
    codec = run_of_codec(folder / "codec")
    argv = ["train", "--decoder-large", str(codec), "--data", str(PHOTOS), "--crop", "176", "--batch", "1", "--no-plot"]
    assert cli.main([*argv, "--threads", "1", "--out", str(folder / "run"), "--minutes", "0.02"]) == 0
    shutil.copytree(DEFAULT, folder / "bundle")
    return folder


def add(folder: Path, data: Path, capsys) -> dict:
    argv = ["add-decoder", str(folder / "run"), "--bundle", str(folder / "bundle"), "--data", str(data), "--json"]
    assert cli.main(argv) == 0
    return json.loads(capsys.readouterr().out)


def test_it_is_added_and_draws_the_same_packets_another_way(folder, small_photos, capsys, tmp_path):
    before = Bundle.open(folder / "bundle")
    report = add(folder, small_photos, capsys)
    assert report["kmac_per_pixel"] > before.manifest["decoder"]["kmac_per_pixel"]
    assert {"bd_rate_ms_ssim_percent", "bd_rate_psnr_percent", "times_as_long", "history"} <= set(report)
    after = Bundle.open(folder / "bundle")
    assert after.id == before.id
    assert after.digest != before.digest
    frame = read_picture(next(iter(sorted(PHOTOS.glob("*.jpg")))))[:160, :240]
    codec, ships = edgesem.load(folder / "bundle"), edgesem.load()
    data = codec.encode(frame, quality=0.4)
    assert data == ships.encode(frame, quality=0.4)
    small, large = codec.decode(data, decoder="small"), codec.decode(data, decoder="large")
    assert np.array_equal(small, ships.decode(data))
    assert not np.array_equal(small, large)
    assert np.abs(small.astype(int) - large).mean() < 8  # an untrained one begins as the small one
    assert codec.decoder_for(0) == "large"
    assert codec.decoder_for(1) == "small"  # the flow decoder knows the pictures of that one
    with pytest.raises(UsageError, match="no large decoder"):
        ships.decode(data, decoder="large")
    with pytest.raises(UsageError, match="no steps"):
        codec.decode(data, decoder="large", steps=1)

    (tmp_path / "photo.es").write_bytes(data)
    for asked, drawn in (("auto", "large"), ("small", "small")):
        argv = ["decode", str(tmp_path / "photo.es"), str(tmp_path / "photo.png"), "--decoder", asked, "--json"]
        assert cli.main([*argv, "--bundle", str(folder / "bundle")]) == 0
        assert json.loads(capsys.readouterr().out)["decoder"] == drawn
        assert cli.main(["info", str(tmp_path / "photo.png"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["decoder"] == drawn
    assert cli.main([*argv[:4], "huge"]) == 2


def test_a_receiver_takes_the_time_for_it_when_no_other_frame_waits(folder, small_photos, capsys):
    if LARGE_DECODER not in Bundle.open(folder / "bundle").files:
        add(folder, small_photos, capsys)
    codec = edgesem.load(folder / "bundle")
    pictures: list = []
    bundles = BundleSet([folder / "bundle"])
    streams = Streams(bundle_ids=bundles.ids, publish=lambda *_: None)
    drawer = FrameDrawer(streams, bundles, pictures.append, None, None)
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    other = Topics("home", "other", "main")
    options = edgesem.PackOptions(frame=1)
    for topics in (TOPICS, other):
        streams.on_message(topics.layer(0), codec.encode(frame, quality=0.3, options=options))
    with DecoderProcess([folder / "bundle"]) as decoder:
        while (job := streams.next_frame(0)) is not None:
            drawer.draw(decoder, *job)
    assert [picture.provenance.decoder for picture in pictures] == ["small", "large"]
    assert not np.array_equal(pictures[0].image, pictures[1].image)


def test_what_was_asked_for_is_kept_to():
    bundle = Bundle.open()
    assert SynthesisOptions(decoder="large").for_bundle(bundle).decoder == "small"  # it has none
    with pytest.raises(UsageError, match="steps"):
        SynthesisOptions(steps=1, decoder="large")
    with pytest.raises(UsageError, match="huge"):
        SynthesisOptions(decoder="huge")


def test_one_of_another_codec_is_refused(folder, tmp_path, capsys):
    weights = load_file(folder / "codec" / "weights.safetensors")
    weights["decoder.linear.weight"] = weights["decoder.linear.weight"] * 2
    save_file(weights, tmp_path / "other.safetensors")
    other = run_of_codec(tmp_path / "codec", tmp_path / "other.safetensors")
    before = Bundle.open(folder / "bundle").digest
    argv = ["add-decoder", str(folder / "run"), "--bundle", str(folder / "bundle"), "--data", str(PHOTOS)]
    assert cli.main([*argv, "--codec", str(other)]) == 1
    assert "another codec" in capsys.readouterr().err
    assert Bundle.open(folder / "bundle").digest == before
