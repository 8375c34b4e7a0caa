"""Report of the rate-distortion bench, and its command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from edgesem.errors import InputError, UsageError
from export.bench.rd import plot as rd_plot
from export.bench.rd import readme as rd_readme
from export.bench.rd import report as rd_report
from tests.support.rd import curve, needs_bench, point


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
            assert {"bpp", "psnr", "ms_ssim", "ssimulacra2", "gmsd", "lpips", "encode_s", "decode_s"} <= mean.keys()
        assert [mean["bpp"] for mean in means] == sorted(mean["bpp"] for mean in means)


def test_a_measure_that_one_codec_lacks_is_not_tabled():
    points = [replace(p, quality=replace(p.quality, lpips=0.2)) for p in curve("jpeg", 4.0, (0.1, 0.3))]
    assert rd_report.summarize(points)["metrics"] == ["lpips", "ssimulacra2", "gmsd", "ms_ssim", "psnr"]
    points += curve("edgesem", 1.0, (0.04, 0.2))
    summary = rd_report.summarize(points)
    assert summary["metrics"] == ["ssimulacra2", "gmsd", "ms_ssim", "psnr"]
    assert rd_report.as_markdown({"data": "d", "pictures": [], "machine": {"processor": "p"}, **summary})


def test_a_judge_that_training_did_not_see_comes_first_and_others_are_marked():
    quality = {"lpips": 0.2, "dists": 0.1}
    points = [
        replace(p, quality=replace(p.quality, **quality))
        for p in (*curve("edgesem", 1.0, (0.04, 0.2)), *curve("jpeg", 4.0, (0.1, 0.6)))
    ]
    summary = rd_report.summarize(points, trained_on=["lpips", "ms_ssim", "psnr"])
    assert summary["metrics"] == ["dists", "ssimulacra2", "gmsd", "lpips", "ms_ssim", "psnr"]
    assert summary["trained_on"] == ["lpips", "ms_ssim", "psnr"]
    report = {"data": "d", "pictures": ["a"], "machine": {"processor": "p"}, **summary}
    for text in (rd_report.as_markdown(report), rd_readme.table(report)):
        assert "Training saw DISTS never, nor SSIMULACRA2 nor GMSD." in text
        assert "| DISTS | SSIMULACRA2 | GMSD | LPIPS (trained on) | MS-SSIM (trained on) |" in text


@pytest.mark.parametrize(
    ("trained_on", "sentence"),
    [(None, "not known"), (["psnr", "ms_ssim", "ssimulacra2", "gmsd"], "none is an independent judge")],
)
def test_a_report_says_where_there_is_no_independent_judge(trained_on, sentence):
    summary = rd_report.summarize(curve("edgesem", 1.0, (0.04, 0.2)), trained_on=trained_on)
    assert summary["trained_on"] == trained_on
    assert sentence in rd_report.independence(summary)


def test_bytes_of_containers_stand_beside_and_can_be_left_out():
    points = curve("edgesem", 1.0, (0.04, 0.08, 0.16, 0.32))
    boxed = curve("avif-s6", 1.0, (0.04, 0.08, 0.16, 0.32))
    points += [
        replace(p, coding=replace(p.coding, bytes=p.coding.bytes + 275, payload_bytes=p.coding.bytes)) for p in boxed
    ]
    summary = rd_report.summarize(points)
    assert summary["container_bytes"] == {"edgesem": None, "avif-s6": 275}
    assert summary["bd_rate"]["edgesem"]["avif-s6"]["psnr"]["percent"] < -2
    assert summary["bd_rate_payload"]["edgesem"]["avif-s6"]["psnr"]["percent"] == pytest.approx(0, abs=0.1)
    text = rd_report.as_markdown({"data": "d", "pictures": ["a"], "machine": {"processor": "p"}, **summary})
    assert "| 275 bytes |" in text
    assert "Without the containers' bytes" in text


def test_means_are_over_pictures():
    summary = rd_report.summarize(
        [point(size_bytes=100, psnr=20), replace(point(size_bytes=300, psnr=30), picture="b")]
    )
    (mean,) = summary["codecs"]["edgesem"]
    assert (mean["bpp"], mean["psnr"], mean["pictures"]) == (0.2, 25, 2)


def test_bd_rate_of_each_metric_is_the_known_factor(report):
    for metric in ("psnr", "ms_ssim", "ssimulacra2", "gmsd"):
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
    rd_readme.fill_section(path, "bench rd", rd_readme.table(report))
    text = path.read_text()
    assert text.startswith("before\n<!-- bench rd -->\n1 pictures of photos")
    assert text.endswith("|\n<!-- end -->\nafter\n")
    assert "| **edgesem** | avif-s6-best | -2" in text
    assert "old" not in text
    with pytest.raises(InputError, match="bench other"):
        rd_readme.around_section(path, "bench other")


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
    rd_plot.plot(report, tmp_path / "rd.png")
    with Image.open(tmp_path / "rd.png") as image:
        assert image.width > 1000


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
    assert printed["trained_on"] == []  # nothing of edgesem's was measured
    assert all(mean["payload_bytes"] == mean["bytes"] for mean in printed["codecs"]["jpeg"])
    fewer = json.loads(command(*arguments, "--pictures", "1").stdout)
    assert fewer["pictures"] == ["0.png"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--range", "0.2-0.04"),
        ("--range", "0.1"),
        ("--at", "much"),
        ("--at", "0"),
        ("--codecs", "jpg"),
        ("--sizes", "third"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(folder, tmp_path, command, wrong):
    result = command("--data", folder, "--out", tmp_path / "out", "--codecs", "jpeg", *wrong)
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()
