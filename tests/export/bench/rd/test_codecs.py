"""Codecs of the rate-distortion bench: baselines, edgesem's decoders, the control, and their stages."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import features

import edgesem
from edgesem.errors import MissingDependency, UsageError
from edgesem.files import find_pictures
from edgesem.quality.metrics import psnr
from export.bench.rd import report as rd_report
from export.bench.rd.baselines import baseline, finest
from export.bench.rd.codecs import BundleCodecs, choose
from export.bench.rd.stages import time_stages
from tests.support.rd import curve, photo


@pytest.mark.parametrize(
    "name", ["jpeg", "webp-m4", "avif-s6", "svtav1-p10-iq-half", "x265-medium", "vvc-faster-quarter", "jxl-e3-half"]
)
def test_a_baseline_codes_more_bytes_to_a_better_picture_of_the_same_size(name):
    if name.startswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    try:
        codec, frame = baseline(name), photo(131, 197)
    except MissingDependency as error:
        pytest.skip(str(error))
    coarse, fine = (codec.encode(frame, setting) for setting in (codec.settings[0], codec.settings[-1]))
    assert len(coarse) < len(fine)
    decoded = [codec.decode(data, frame.shape[:2]) for data in (coarse, fine)]
    assert all(picture.shape == frame.shape and picture.dtype == np.uint8 for picture in decoded)
    assert psnr(frame, decoded[0]) < psnr(frame, decoded[1])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_decoding_by_one_thread_leaves_pillow_as_it_was():
    from PIL import AvifImagePlugin

    codec = baseline("avif-s10")
    before = AvifImagePlugin.DEFAULT_MAX_THREADS
    codec.decode(codec.encode(photo(), 50), (99, 131))
    assert before == AvifImagePlugin.DEFAULT_MAX_THREADS


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_version_names_library_and_tune_and_tunes_differ():
    plain, other = baseline("avif-s6"), baseline("avif-s6-ssim")
    assert plain.version.endswith("tune iq")
    assert other.version.endswith("tune ssim")
    assert "libavif" in plain.version
    assert "aom" in plain.version
    assert plain.encode(photo(), 40) != other.encode(photo(), 40)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_payload_is_the_file_without_its_container():
    codec, frame = baseline("avif-s10"), photo(128, 160)
    files = [codec.encode(frame, quality) for quality in (10, 60)]
    containers = {len(data) - codec.payload(data) for data in files}
    assert all(200 < size < 400 for size in containers)
    assert baseline("jpeg").payload(b"1234") == 4
    assert baseline("webp-m4").payload(baseline("webp-m4").encode(frame, 50)) > 100


@pytest.mark.parametrize(
    "name", ["png", "avif", "avif-s11", "avif-s6-fast", "svtav1-p4", "x265", "webp-m7", "jpeg-third", "edgesem"]
)
def test_unknown_codecs_are_refused_by_name(name):
    with pytest.raises(UsageError, match=name):
        baseline(name)


@pytest.mark.parametrize(
    ("name", "budgets"),
    [("jpeg", (2000, 4000)), ("webp-m4", (2000, 4000)), ("avif-s10", (2000, 4000)), ("edgesem", (300, 600))],
)
def test_every_codec_finds_its_best_file_within_a_budget(name, budgets):
    if name.startswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    noise = np.random.default_rng(0).integers(0, 40, (128, 160, 3), np.uint8)  # else quality ends below the budgets
    codec, frame = choose(name, name, "full", None).codecs[0], photo(128, 160) // 2 + noise
    none, small, large = codec.fit(frame, [30, *budgets])
    assert none is None
    assert budgets[0] / 2 < len(small) <= budgets[0] < len(large) <= budgets[1]
    assert psnr(frame, codec.decode(small, (128, 160))) < psnr(frame, codec.decode(large, (128, 160)))


@pytest.mark.parametrize("name", ["jpeg", "webp-m4", "avif-s10", "jxl-e1"])
def test_a_budget_for_more_than_the_finest_file_gets_the_finest_one(name):
    if name.startswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if name.startswith("jxl"):
        pytest.importorskip("pillow_jxl")
    codec, frame = baseline(name), photo(64, 80)
    (data,) = codec.fit(frame, [1 << 20])
    assert data == codec.encode(frame, codec.highest)
    assert psnr(frame, codec.decode(data, (64, 80))) > 35


@pytest.mark.parametrize("budget", [9, 10, 11, 42, 49, 110, 5000])
def test_the_finest_setting_is_found_by_few_trials(budget):
    tried: list[int] = []

    def encode(setting):
        tried.append(setting)
        return bytes(10 + setting)

    found = finest(encode, budget)
    assert found == (None if budget < 10 else (min(budget - 10, 100), bytes(min(budget, 110))))
    assert len(tried) <= 9


class FlowCodec(edgesem.Codec):
    """The default codec, with a stand-in for a flow decoder: each step brightens the picture by one."""

    has_flow = True

    def synthesize(self, latent, *, steps=0, seed=0, realism=1.0):
        return np.minimum(super().synthesize(latent), 250) + np.uint8(steps)


@pytest.fixture
def flow_bundle(monkeypatch):
    opened = edgesem.load().bundle
    monkeypatch.setattr(edgesem, "load", lambda path, threads, precision: FlowCodec(opened, threads))


def test_without_a_flow_decoder_steps_are_refused_by_name_and_left_out_by_default(monkeypatch):
    monkeypatch.setattr(edgesem.Codec, "has_flow", False)
    with pytest.raises(UsageError, match=r"edgesem\+1step needs a flow decoder.*--bundle"):
        choose("edgesem+1step", "", "full", None)
    with pytest.raises(UsageError, match=r"jpeg\+flow needs a flow decoder"):
        choose("jpeg+flow", "", "full", None)
    choice = choose(None, "edgesem,edgesem+1step,jpeg", "full,half", None)
    assert [codec.name for codec in choice.codecs] == ["edgesem", "jpeg", "jpeg-half"]
    assert choice.left_out.keys() == {"edgesem+1step"}


@pytest.mark.usefixtures("flow_bundle")
def test_steps_are_decoders_of_the_same_packets():
    base, one, four = choose("edgesem,edgesem+1step,edgesem+4step", "", "full", None).codecs
    data = base.encode(photo(), 0.5)
    assert one.encode(photo(), 0.5) == four.encode(photo(), 0.5) == data
    pictures = [codec.decode(data, (99, 131)).astype(int) for codec in (base, one, four)]
    assert (pictures[1] - pictures[0] == 1).all()
    assert (pictures[2] - pictures[0] == 4).all()


@pytest.mark.usefixtures("flow_bundle")
def test_the_control_is_the_other_codecs_file_redrawn():
    whole, half = choose("jpeg+flow", "", "full,half", None).codecs
    assert (whole.name, half.name) == ("jpeg+flow", "jpeg+flow-half")
    data = half.encode(photo(), 45)
    assert data == baseline("jpeg-half").encode(photo(), 45)
    plain, redrawn = (codec.decode(data, (99, 131)) for codec in (baseline("jpeg-half"), half))
    assert redrawn.shape == plain.shape
    assert (redrawn != plain).any()
    assert psnr(photo(), redrawn) > 15


@pytest.mark.parametrize("name", ["edgesem+5step", "edgesem-half", "edgesem+flow", "png+flow"])
def test_unknown_decoders_are_refused_by_name(name):
    with pytest.raises(UsageError, match="no codec is called"):
        choose(name, "", "full", None)


@pytest.mark.usefixtures("flow_bundle")
def test_stages_are_timed_at_equal_bytes_and_add_up(folder):
    timed = time_stages(
        find_pictures(folder), BundleCodecs(None), [baseline("jpeg"), baseline("webp-m4")], 1.0, rounds=1
    )
    ours = timed["codecs"]["edgesem"]["stages"]
    assert ours["decode, 1 step"] == ours["unpack"] + ours["draw, 1 step"]
    assert ours["encode to a budget"] == ours["analyze"] + ours["pack to a budget"]
    assert timed["ratio"]["jpeg"]["decode"] == ours["decode"] / timed["codecs"]["jpeg"]["stages"]["decode"]
    assert all(0.1 < codec["bpp"] <= 1 for codec in timed["codecs"].values())
    report = rd_report.summarize([*curve("edgesem", 1.0, (0.04, 0.2)), *curve("jpeg", 4.0, (0.1, 0.3))])
    text = rd_report.as_markdown(
        {"data": "d", "pictures": [], "machine": {"processor": "p"}, "stages": timed, **report}
    )
    assert "| encode to a budget |" in text
