"""Drawing from an archive: `edgesem archive export` makes pictures and time-lapse videos of kept packets."""

import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from edgesem.cli.main import main
from edgesem.errors import UsageError
from edgesem.provenance import read_provenance
from runtime.receiver.archive import Archive
from runtime.receiver.archive_drawer import ArchiveDrawer
from runtime.receiver.times import parse_day, parse_span
from tests.support.publishing import codec, frame

DAY = "2026-11-22"
BEGIN_S = datetime.strptime(DAY, "%Y-%m-%d").timestamp()


@pytest.fixture
def archive(tmp_path):
    """Twelve frames of a camera, ten minutes apart, from 23:00 of the day before on; two of them promised."""
    with Archive(tmp_path / "kept") as made:
        for number in range(12):
            captured_s = BEGIN_S - 3600 + 600 * number
            changes = {"time_ms": round(captured_s * 1000) % 2**32, "promised": number in (7, 8)}
            made.add("home/door/main", replace(frame(number), **changes), captured_s)
    return tmp_path / "kept"


def export(archive, out, *flags):
    arguments = ["archive", "export", "--archive", str(archive), "--out", str(out), *flags, "--json"]
    return main(arguments)


def numbers(result):
    return [int(Path(file).stem[-10:]) for file in result["files"]]


def test_frames_of_a_time_are_drawn_as_the_packets_say(archive, tmp_path, capsys):
    assert export(archive, tmp_path / "out", "--day", DAY) == 0
    result = json.loads(capsys.readouterr().out)
    assert numbers(result) == [6, 7, 8, 9, 10, 11]
    assert (result["found"], result["drawn"], result["failed"]) == (6, 6, 0)
    path = Path(result["files"][0])
    assert path.parent == tmp_path / "out" / "home" / "door" / "main"
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), codec().decode(frame(6).to_bytes()))
    said = read_provenance(path)
    assert (said.frame, said.captured) == (6, f"{datetime.fromtimestamp(BEGIN_S, timezone.utc):%Y-%m-%dT%H:%M:%S}.000Z")
    assert path.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (("--promised",), [7, 8]),
        (("--every", "30min"), [0, 3, 6, 9]),
        (("--since", f"{DAY} 00:30", "--until", f"{DAY} 00:50"), [9, 10]),
        (("--stream", "home/yard/main"), []),
    ],
)
def test_what_is_drawn_is_chosen(archive, tmp_path, capsys, flags, wanted):
    assert export(archive, tmp_path / "out", *flags) == 0
    assert numbers(json.loads(capsys.readouterr().out)) == wanted


def test_a_time_lapse_video_has_each_frame_at_the_rate_asked_for(archive, tmp_path, capsys):
    assert export(archive, tmp_path / "out", "--as", "mkv", "--fps", "5", "--stamp", "bar") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    with av.open(file) as video:
        shown = list(video.decode(video=0))
    assert [float(one.time) for one in shown] == pytest.approx([number / 5 for number in range(12)], abs=0.002)
    pixels = shown[-1].to_ndarray(format="rgb24")
    assert pixels[-2:].mean() < 40  # the bar
    drawn = codec().decode(frame(11).to_bytes())
    assert np.abs(pixels[:50].astype(int) - drawn[:50]).mean() < 8  # the picture


@pytest.mark.parametrize("kind", ["mkv", "png"])
def test_an_export_that_is_stopped_leaves_nothing_that_is_not_whole(archive, tmp_path, monkeypatch, kind):
    out, draw = tmp_path / "out", ArchiveDrawer.draw
    assert export(archive, out, "--as", "mkv") == 0
    before = set(out.rglob("*.mkv"))
    drawn = iter(range(12))

    def draw_until_stopped(self, entry):
        if next(drawn) == 5:
            raise KeyboardInterrupt
        return draw(self, entry)

    monkeypatch.setattr(ArchiveDrawer, "draw", draw_until_stopped)
    assert export(archive, out, "--as", kind) == 130
    assert {path for path in out.rglob("*") if path.is_file() and path.suffix != ".png"} == before
    for path in out.rglob("*.png"):
        assert read_provenance(path) is not None


def test_a_frame_without_colour_is_drawn_without(tmp_path, capsys):
    with Archive(tmp_path / "kept") as made:
        for number in (1, 2):
            made.add("home/door/main", frame(number), BEGIN_S + number, grey=number == 2)
    assert export(tmp_path / "kept", tmp_path / "out") == 0
    coloured, grey = (np.asarray(Image.open(file)) for file in json.loads(capsys.readouterr().out)["files"])
    assert np.ptp(coloured, axis=2).max() > 10
    assert np.ptp(grey, axis=2).max() == 0


def test_what_cannot_be_drawn_is_told_and_the_rest_is_drawn(archive, tmp_path, capsys):
    with Archive(archive) as opened:
        opened.add("home/door/main", replace(frame(20), bundle_id=1), BEGIN_S)
    assert export(archive, tmp_path / "out") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["drawn"], result["failed"]) == (12, 1)
    assert "frame 20 of home/door/main was made with bundle 0001" in result["why"][0]


def test_what_an_archive_has_is_shown(archive, capsys):
    assert main(["archive", "show", "--archive", str(archive), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["streams"]
    assert (row["stream"], row["frames"], row["promised"]) == ("home/door/main", 12, 2)
    assert datetime.fromisoformat(row["first"]).timestamp() == BEGIN_S - 3600


def test_the_size_of_an_archive_counts_what_is_not_in_the_file_itself_yet(archive, capsys):
    with Archive(archive) as opened:  # a receiver that runs
        for number in range(100, 400):
            opened.add("home/door/main", frame(number), BEGIN_S)
        assert main(["archive", "show", "--archive", str(archive), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file_bytes"] > 0.9 * sum(row["size_bytes"] for row in told["streams"])


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--as", "gif"), "png, jpg, mkv"),
        (("--day", "yesterday"), "2026-11-22"),
        (("--day", DAY, "--since", "2h"), "--since"),
        (("--every", "often"), "30min"),
        (("--stamp", "gold"), "small"),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(archive, tmp_path, capfd, flags, why):
    assert export(archive, tmp_path / "out", *flags) == 2
    assert why in capfd.readouterr().err


def test_spans_and_days():
    assert [parse_span(text) for text in ("90s", "30min", "2h", "3d", "4w")] == [90, 1800, 7200, 259_200, 2_419_200]
    with pytest.raises(UsageError):
        parse_span("30")
    begin_s, end_s = parse_day(DAY)
    assert time.localtime(begin_s)[3:6] == time.localtime(end_s)[3:6] == (0, 0, 0)
