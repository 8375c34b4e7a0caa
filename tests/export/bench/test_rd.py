"""The rate-distortion bench: codecs that everybody has, points that are kept, and reports that add up."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image, features
from typer.testing import CliRunner

import edgesem
from edgesem.errors import InputError, UsageError
from edgesem.files import find_pictures
from edgesem.quality.metrics import psnr
from export.bench.rd import measure as rd
from export.bench.rd import plot as rd_plot
from export.bench.rd import readme as rd_readme
from export.bench.rd import report as rd_report
from export.bench.rd.baselines import Subject, baseline, finest
from export.bench.rd.points import Coding, Point, Quality, Store
from export.bench.rd.stages import time_stages
from export.bench.rd.subjects import Redrawer, choose

needs_bundle = pytest.mark.skipif(
    not (Path(edgesem.__file__).parent / "default_bundle" / "manifest.json").exists(), reason="no default bundle here"
)
needs_bench = pytest.mark.skipif(find_spec("ssimulacra2") is None, reason="pip install 'edgesem[bench]'")


def photo(height=99, width=131):
    """A smooth picture with a few edges."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 90 * np.sin(x / 17 + y / 29), 128 + 70 * np.cos(x / 11), 40 + 120 * (x + y > 110)]
    return np.stack(planes, -1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.roll(photo(), 20 * number, axis=1)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


# --- baselines


@pytest.mark.parametrize(
    "name",
    [
        "jpeg",
        "jpeg-half",
        "jpeg-quarter",
        "webp-m4",
        "webp-m0-quarter",
        "avif-s6",
        "avif-s10-half",
        "jxl",
        "jxl-e3-half",
    ],
)
def test_a_baseline_codes_more_bytes_to_a_better_picture_of_the_same_size(name):
    if name.startswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    if name.startswith("jxl"):
        pytest.importorskip("pillow_jxl", reason="pip install 'edgesem[bench]'")
    codec, frame = baseline(name), photo()
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


@pytest.mark.parametrize("name", ["png", "avif", "avif-s11", "webp-m7", "jpeg-third", "edgesem"])
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
    if name == "edgesem" and not (Path(edgesem.__file__).parent / "default_bundle" / "manifest.json").exists():
        pytest.skip("no default bundle here")
    noise = np.random.default_rng(0).integers(0, 40, (128, 160, 3), np.uint8)  # else quality ends below the budgets
    codec, frame = choose(name, name, "full", None).subjects[0], photo(128, 160) // 2 + noise
    none, small, large = codec.fit(frame, [30, *budgets])
    assert none is None
    assert budgets[0] / 2 < len(small) <= budgets[0] < len(large) <= budgets[1]
    assert psnr(frame, codec.decode(small, (128, 160))) < psnr(frame, codec.decode(large, (128, 160)))


@pytest.mark.parametrize("budget", [9, 10, 11, 42, 49, 110, 5000])
def test_the_finest_setting_is_found_by_few_trials(budget):
    tried: list[int] = []

    def encode(setting):
        tried.append(setting)
        return bytes(10 + setting)

    found = finest(encode, budget)
    assert found == (None if budget < 10 else (min(budget - 10, 100), bytes(min(budget, 110))))
    assert len(tried) <= 9


# --- edgesem's decoders and the control


class FlowCodec(edgesem.Codec):
    """The default codec, with a stand-in for a flow decoder: each step brightens the picture by one."""

    has_flow = True

    def synthesize(self, latent, *, steps=0, seed=0, realism=1.0):
        return np.minimum(super().synthesize(latent), 250) + np.uint8(steps)


@pytest.fixture
def flow_bundle(monkeypatch):
    opened = edgesem.load().bundle
    monkeypatch.setattr(edgesem, "load", lambda path, threads, precision: FlowCodec(opened, threads))


@needs_bundle
def test_without_a_flow_decoder_steps_are_refused_by_name_and_left_out_by_default(monkeypatch):
    monkeypatch.setattr(edgesem.Codec, "has_flow", False)
    with pytest.raises(UsageError, match=r"edgesem\+1step needs a flow decoder.*--bundle"):
        choose("edgesem+1step", "", "full", None)
    with pytest.raises(UsageError, match=r"jpeg\+flow needs a flow decoder"):
        choose("jpeg+flow", "", "full", None)
    choice = choose(None, "edgesem,edgesem+1step,jpeg", "full,half", None)
    assert [subject.name for subject in choice.subjects] == ["edgesem", "jpeg", "jpeg-half"]
    assert choice.left_out.keys() == {"edgesem+1step"}


@needs_bundle
@pytest.mark.usefixtures("flow_bundle")
def test_steps_are_decoders_of_the_same_packets():
    base, one, four = choose("edgesem,edgesem+1step,edgesem+4step", "", "full", None).subjects
    data = base.encode(photo(), 0.5)
    assert one.encode(photo(), 0.5) == four.encode(photo(), 0.5) == data
    pictures = [codec.decode(data, (99, 131)).astype(int) for codec in (base, one, four)]
    assert (pictures[1] - pictures[0] == 1).all()
    assert (pictures[2] - pictures[0] == 4).all()


@needs_bundle
@pytest.mark.usefixtures("flow_bundle")
def test_the_control_is_the_other_codecs_file_redrawn():
    whole, half = choose("jpeg+flow", "", "full,half", None).subjects
    assert (whole.name, half.name) == ("jpeg+flow", "jpeg+flow-half")
    data = half.encode(photo(), 45)
    assert data == baseline("jpeg-half").encode(photo(), 45)
    plain, redrawn = (codec.decode(data, (99, 131)) for codec in (baseline("jpeg-half"), half))
    assert redrawn.shape == plain.shape
    assert (redrawn != plain).any()
    assert psnr(photo(), redrawn) > 15


@pytest.mark.parametrize("name", ["edgesem+5step", "edgesem-half", "edgesem+flow", "png+flow"])
@needs_bundle
def test_unknown_decoders_are_refused_by_name(name):
    with pytest.raises(UsageError, match="no codec is called"):
        choose(name, "", "full", None)


@needs_bundle
@pytest.mark.usefixtures("flow_bundle")
def test_stages_are_timed_at_equal_bytes_and_add_up(folder):
    timed = time_stages(find_pictures(folder), Redrawer(None), [baseline("jpeg"), baseline("webp-m4")], 1.0, rounds=1)
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


# --- points and their store


def point(codec="edgesem", setting=0.5, size_bytes=100, run="monday", **quality):
    values = {"psnr": 30.0, "ms_ssim": 0.9, "ssimulacra2": 50.0} | quality
    coding = Coding(size_bytes, 0.02, 0.03, 0.019, 0.029, "pixels", run)
    return Point("a.png", "digest", 8000, codec, setting, "1", coding, Quality(**values))


def test_a_store_gives_back_what_was_put_in_and_the_later_of_two(tmp_path):
    store = Store(tmp_path / "cache.jsonl")
    store.add(point(size_bytes=100))
    store.add(point(size_bytes=90))
    store.add(point(setting=0.7, lpips=0.1, lpips_weights="w"))
    again = Store(tmp_path / "cache.jsonl")
    assert again.get(point().key) == point(size_bytes=90)
    assert again.get(point(setting=0.7).key) == point(setting=0.7, lpips=0.1, lpips_weights="w")
    assert again.get(point(setting=0.9).key) is None


def test_a_store_outlives_a_run_that_was_killed_while_writing(tmp_path):
    path = tmp_path / "cache.jsonl"
    Store(path).add(point())
    with path.open("a") as file:
        file.write('[]\n{"codec": "other program"}\n{"picture": "b.png", "coding": {"by')
    store = Store(path)
    store.add(point(setting=0.7))
    again = Store(path)
    assert again.get(point().key)
    assert again.get(point(setting=0.7).key)


# --- measuring


class CountingCodec:
    """Rounds colours to multiples of 256 / setting, and counts how often it was asked to."""

    def __init__(self, name="toy", version="1"):
        self.encoded: list[float] = []
        self.subject = Subject(name, version, (4, 16, 64), self.encode, self.decode)

    def encode(self, frame, setting):
        self.encoded.append(setting)
        return zlib.compress((frame // (256 // setting) * (256 // setting)).tobytes())

    def decode(self, data, size):
        return np.frombuffer(zlib.decompress(data), np.uint8).reshape(*size, 3)


class QuickJudge(rd.Judge):
    """PSNR alone; remembers what it was asked."""

    calls: list[Quality | None]

    @property
    def version(self):
        return "quick"

    def __call__(self, original, decoded, known):
        self.calls.append(known)
        return known or Quality(psnr(original, decoded), 0.9, 50.0)


@pytest.fixture
def judge():
    judge = QuickJudge()
    object.__setattr__(judge, "calls", [])
    return judge


def test_what_was_measured_is_not_measured_again(folder, tmp_path, judge):
    codec, pictures = CountingCodec(), find_pictures(folder)
    first = rd.measure(pictures, [codec.subject], Store(tmp_path / "c"), judge)
    codec.encoded.clear()
    counts: list[int] = []
    second = rd.measure(pictures, [codec.subject], Store(tmp_path / "c"), judge, done=counts.append)
    assert len(first) == 6
    assert first == second
    assert not codec.encoded
    assert sum(counts) == 6


def test_another_version_of_a_codec_is_another_measurement(folder, tmp_path, judge):
    pictures, store = find_pictures(folder), Store(tmp_path / "c")
    rd.measure(pictures, [CountingCodec().subject], store, judge)
    newer = CountingCodec(version="2")
    rd.measure(pictures, [newer.subject], store, judge)
    assert set(newer.encoded) == {4, 16, 64}


def test_retime_codes_again_but_keeps_the_quality_of_the_same_pixels(folder, tmp_path, judge):
    codec, pictures, store = CountingCodec(), find_pictures(folder), Store(tmp_path / "c")
    first = rd.measure(pictures, [codec.subject], store, judge)
    codec.encoded.clear()
    judge.calls.clear()
    second = rd.measure(pictures, [codec.subject], store, judge, retime=True)
    assert set(codec.encoded) == {4, 16, 64}
    assert judge.calls == [p.quality for p in first]
    assert [p.quality for p in second] == [p.quality for p in first]


def test_the_same_pixels_are_judged_once_whoever_coded_them(folder, tmp_path, judge):
    pictures, store = find_pictures(folder), Store(tmp_path / "c")
    rd.measure(pictures, [CountingCodec().subject], store, judge)
    judge.calls.clear()
    rd.measure(pictures, [CountingCodec("other", version="2").subject], store, judge)
    assert len(judge.calls) == 6
    assert None not in judge.calls


def test_fresh_measures_all_again(folder, tmp_path, judge):
    codec, pictures, store = CountingCodec(), find_pictures(folder), Store(tmp_path / "c")
    rd.measure(pictures, [codec.subject], store, judge)
    judge.calls.clear()
    rd.measure(pictures, [codec.subject], store, judge, fresh=True)
    assert judge.calls == [None] * 6


def test_codecs_are_timed_in_turn(folder, tmp_path, judge):
    one, two = CountingCodec("one"), CountingCodec("two")
    points = rd.measure(find_pictures(folder)[:1], [one.subject, two.subject], Store(tmp_path / "c"), judge)
    order = [(p.codec, p.setting) for p in points]
    assert order == [("one", 4), ("two", 4), ("one", 16), ("two", 16), ("one", 64), ("two", 64)]


def test_rates_are_those_of_the_bytes_over_the_original(folder, tmp_path, judge):
    codec = CountingCodec()
    for p in rd.measure(find_pictures(folder)[:1], [codec.subject], Store(tmp_path / "c"), judge):
        data = codec.encode(photo(), p.setting)
        assert p.coding.bytes == len(data)
        assert p.bpp == 8 * len(data) / (99 * 131)
        assert p.coding.encode_s > 0
        assert p.quality.psnr == psnr(photo(), codec.decode(data, (99, 131)))


@needs_bench
def test_two_processes_find_what_one_finds(folder, tmp_path):
    codec, pictures = CountingCodec(), find_pictures(folder)[:1]
    judge = rd.Judge.create(None)
    alone = rd.measure(pictures, [codec.subject], Store(tmp_path / "1"), judge)
    both = rd.measure(pictures, [codec.subject], Store(tmp_path / "2"), judge, jobs=2)
    assert [p.quality for p in both] == [p.quality for p in alone]


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        find_pictures(tmp_path)


@needs_bundle
def test_edgesem_itself_can_be_measured(folder, tmp_path, judge):
    subject = Redrawer(None).subject("edgesem")
    points = rd.measure(find_pictures(folder)[:1], [subject], Store(tmp_path / "c"), judge)
    assert len({p.coding.bytes for p in points}) == len(subject.settings)
    assert points[-1].quality.psnr > points[0].quality.psnr


# --- LPIPS


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

    judge, random = DistsLike(vgg), np.random.default_rng(1)
    picture, other = (np.clip(random.normal(128, 40, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(2))
    smooth = np.full_like(picture, 128)
    assert judge(picture, picture) == pytest.approx(0, abs=1e-4)
    assert judge(picture, other) < judge(picture, smooth)


def test_a_file_without_vgg_weights_is_refused(tmp_path):
    pytest.importorskip("torch", reason="pip install 'edgesem[export]'")
    from export.metrics.dists import DistsLike

    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match=r"other\.npz"):
        DistsLike(tmp_path / "other.npz")


def test_a_judge_completes_what_was_measured_before(vgg):
    pytest.importorskip("ssimulacra2", reason="pip install 'edgesem[bench]'")
    picture = photo(64, 96)
    known = rd.Judge.create(None)(picture, picture // 16 * 16, None)
    judge = rd.Judge.create(None, vgg)
    assert known.dists_like is None
    assert not judge.is_content(known)
    full = judge(picture, picture // 16 * 16, known)
    assert judge.is_content(full)
    assert full.dists_like > 0
    assert full.psnr == known.psnr


# --- the report


def curve(name, factor, bpps, run="monday"):
    """Points of a codec that spends `factor` times the bytes for the same quality."""
    points = []
    for bpp in bpps:
        gain = np.log2(bpp / factor / 0.02)
        quality = {"psnr": 20 + 2.5 * gain, "ms_ssim": float(1 - 0.3 * 0.6**gain), "ssimulacra2": -50 + 25 * gain}
        made = point(name, bpp, run=run, **quality)
        points.append(replace(made, pixels=10**6, coding=replace(made.coding, bytes=round(bpp * 10**6 / 8))))
    return points


@pytest.fixture
def report():
    points = [
        *curve("edgesem", 1.0, (0.04, 0.08, 0.16, 0.32)),
        *curve("avif-s6", 1.25, (0.08, 0.16, 0.32, 0.64), run="sunday"),
        *curve("avif-s6-half", 1.5, (0.03, 0.06, 0.12)),
        *curve("jpeg", 4.0, (0.2, 0.3, 0.6)),
    ]
    summary = rd_report.summarize(points)
    return {"data": "photos", "pictures": ["a.png"], "machine": {"processor": "a processor"}, **summary}


def test_means_have_the_keys_that_scripts_read(report):
    for means in report["codecs"].values():
        for mean in means:
            assert {"bpp", "psnr", "ms_ssim", "ssimulacra2", "lpips", "encode_s", "decode_s"} <= mean.keys()
        assert [mean["bpp"] for mean in means] == sorted(mean["bpp"] for mean in means)


def test_a_measure_that_one_codec_lacks_is_not_tabled():
    points = [replace(p, quality=replace(p.quality, lpips=0.2)) for p in curve("jpeg", 4.0, (0.1, 0.3))]
    assert rd_report.summarize(points)["metrics"] == ["psnr", "ms_ssim", "ssimulacra2", "lpips"]
    points += curve("edgesem", 1.0, (0.04, 0.2))
    summary = rd_report.summarize(points)
    assert summary["metrics"] == ["psnr", "ms_ssim", "ssimulacra2"]
    assert rd_report.as_markdown({"data": "d", "pictures": [], "machine": {"processor": "p"}, **summary})


def test_means_are_over_pictures():
    summary = rd_report.summarize(
        [point(size_bytes=100, psnr=20), replace(point(size_bytes=300, psnr=30), picture="b")]
    )
    (mean,) = summary["codecs"]["edgesem"]
    assert (mean["bpp"], mean["psnr"], mean["pictures"]) == (0.2, 25, 2)


def test_bd_rate_of_each_metric_is_the_known_factor(report):
    for metric in ("psnr", "ms_ssim", "ssimulacra2"):
        assert report["bd_rate"]["edgesem"]["avif-s6"][metric]["percent"] == pytest.approx(-20, abs=0.5)
        assert report["bd_rate"]["edgesem"]["jpeg"][metric]["percent"] == pytest.approx(-75, abs=0.5)
    anchors = report["bd_rate"]["edgesem"]
    assert anchors["jpeg"]["psnr"]["covered"] < 1 == anchors["avif-s6-best"]["psnr"]["covered"]
    assert anchors.keys() == {"avif-s6", "avif-s6-best", "jpeg"}


def many(name, factors, bpps=(0.04, 0.08, 0.16, 0.32)):
    """Points of a codec on as many pictures as factors, which are harder from one to the next."""
    return [
        replace(p, picture=f"{number}.png", quality=replace(p.quality, psnr=p.quality.psnr - number))
        for number, factor in enumerate(factors)
        for p in curve(name, factor, bpps)
    ]


def test_intervals_are_those_of_pairs():
    same = [*many("edgesem", [1] * 12), *many("jpeg", [1.25] * 12)]
    (found,) = (rd_report.summarize(same, resamples=40)["bd_rate"]["edgesem"]["jpeg"][m] for m in ("psnr",))
    assert found["percent"] == pytest.approx(-20, abs=0.5)
    assert found["interval"][1] - found["interval"][0] < 1  # though pictures are 11 dB apart

    mixed = [*many("edgesem", [1] * 12), *many("jpeg", [1, 1.6] * 6)]
    found = rd_report.summarize(mixed, resamples=40)["bd_rate"]["edgesem"]["jpeg"]["psnr"]
    assert found["interval"][0] + 3 < found["percent"] < found["interval"][1] - 3
    assert rd_report.summarize(mixed)["bd_rate"]["edgesem"]["jpeg"]["psnr"]["interval"] is None


def test_every_decoder_of_edgesem_is_compared_and_the_range_is_the_users():
    points = [*curve("edgesem", 1.0, (0.02, 0.3)), *curve("edgesem+1step", 0.5, (0.02, 0.3))]
    points += curve("jpeg", 1.0, (0.01, 0.6))
    summary = rd_report.summarize(points, range_bpp=(0.1, 0.2), at_bpp=(0.116,))
    rates = summary["bd_rate"]
    assert rates.keys() == {"edgesem", "edgesem+1step"}
    assert rates["edgesem+1step"]["edgesem"]["psnr"]["percent"] == pytest.approx(-50, abs=0.5)
    assert rates["edgesem"]["jpeg"]["psnr"]["low"] == pytest.approx(20 + 2.5 * np.log2(0.1 / 0.02), abs=0.01)
    assert summary["at_bpp"]["jpeg"].keys() == {"0.116"}


def test_the_short_table_goes_where_the_file_wants_it(report, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- bench rd -->\nold\n<!-- end -->\nafter\n")
    rd_readme.Section(path, "bench rd").fill(rd_readme.table(report))
    text = path.read_text()
    assert text.startswith("before\n<!-- bench rd -->\n1 pictures of photos")
    assert text.endswith("|\n<!-- end -->\nafter\n")
    assert "| **edgesem** | avif-s6-best | -2" in text
    assert "old" not in text
    with pytest.raises(InputError, match="bench task"):
        rd_readme.Section(path, "bench task")


def test_the_best_size_is_the_half_below_the_floor_of_the_whole_and_the_whole_above(report):
    best = report["best_size"]["avif-s6-best"]["psnr"]
    assert {mean["codec"] for mean in best if mean["bpp"] < 0.079} == {"avif-s6-half"}
    assert {mean["codec"] for mean in best if mean["bpp"] > 0.081} == {"avif-s6"}
    assert [mean["psnr"] for mean in best] == sorted(mean["psnr"] for mean in best)


def test_values_at_a_rate_are_interpolated_and_never_invented(report):
    at = report["at_bpp"]
    assert at["edgesem"]["0.1"]["psnr"] == pytest.approx(20 + 2.5 * np.log2(0.1 / 0.02), abs=0.01)
    assert at["edgesem"]["0.4"]["psnr"] is None
    assert at["avif-s6"]["0.05"]["psnr"] is None
    assert at["avif-s6-best"]["0.05"]["psnr"] == at["avif-s6-half"]["0.05"]["psnr"]


def test_tables_name_every_codec_and_warn_of_times_from_several_runs(report):
    text = rd_report.as_markdown(report)
    assert "| avif-s6-best | 0.05 |" in text
    assert "-20.0 %" in text
    assert "not all taken in one run" in text
    assert "| jpeg 0.3 | 0.300 |" in rd_report.settings_as_markdown(report)


def test_the_plot_is_a_picture(report, tmp_path):
    pytest.importorskip("matplotlib", reason="pip install 'edgesem[bench]'")
    rd_plot.plot(report, tmp_path / "rd.png")
    with Image.open(tmp_path / "rd.png") as image:
        assert image.width > 1000


# --- the command


@pytest.fixture
def command():
    from export.cli.rd import bench_rd

    app = typer.Typer()
    app.command()(bench_rd)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@needs_bench
def test_the_command_writes_table_json_and_plot(folder, tmp_path, command, monkeypatch):
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # the command sets them; this puts them back afterwards
    out = tmp_path / "out"
    arguments = ("--data", folder, "--out", out, "--codecs", "jpeg", "--sizes", "full,half", "--json")
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["codecs"].keys() == {"jpeg", "jpeg-half"}
    saved = json.loads((out / "rd.json").read_text())
    assert {p["picture"] for p in saved["points"]} == {"0.png", "1.png"}
    assert len(saved["points"]) == 2 * sum(len(means) for means in saved["codecs"].values())
    assert "| jpeg-half 1 |" in (out / "rd.md").read_text()
    assert (out / "rd.png").exists()
    assert json.loads(command(*arguments).stdout)["codecs"] == printed["codecs"]  # times too: all from the cache


@pytest.mark.parametrize(
    "wrong",
    [("--range", "0.2-0.04"), ("--range", "0.1"), ("--at", "much"), ("--at", "0"), ("--codecs", "jpg")],
)
def test_wrong_options_are_refused_before_anything_is_written(folder, tmp_path, command, wrong):
    result = command("--data", folder, "--out", tmp_path / "out", "--codecs", "jpeg", *wrong)
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()


def test_a_wrong_size_is_refused(folder, tmp_path, command):
    result = command("--data", folder, "--out", tmp_path / "out", "--codecs", "jpeg", "--sizes", "third")
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()


def test_the_command_is_light_to_import():
    code = "import sys, export.cli.rd; sys.exit(any(m in sys.modules for m in ('numpy', 'PIL', 'torch', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
