"""What a demo shows: the JPEG it compares with, its table, its contact sheet, its verdict."""

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from runtime.capture.frame import PHOTOS, capture
from runtime.demo.compare import jpeg_within, measure
from runtime.demo.report import CONTACT_SHEET, REPORT, Facts, draw, rate_text, table, write_files
from runtime.demo.sheet import Cell, draw_sheet


@pytest.fixture(scope="module")
def photo():
    return next(iter(capture(PHOTOS, 1))).image


@pytest.mark.parametrize("budget_bytes", [6000, 15_000, 30_000])
def test_the_jpeg_fills_its_budget_and_no_more(photo, budget_bytes):
    jpeg = jpeg_within(photo, budget_bytes)
    assert jpeg.fits
    assert 0.8 * budget_bytes < jpeg.size_bytes <= budget_bytes
    assert jpeg.image.shape == photo.shape


def test_where_no_jpeg_is_small_enough_the_smallest_is_shown_and_said(photo):
    jpeg = jpeg_within(photo, 500)
    assert (jpeg.quality, jpeg.fits) == (1, False)
    assert jpeg.size_bytes > 500


def test_equal_pictures_have_no_psnr_that_json_cannot_hold(photo):
    told = measure(photo, photo, 100)
    assert told["psnr_db"] is None
    assert told["ms_ssim"] == pytest.approx(1)
    assert told["bpp"] == pytest.approx(800 / 512 / 512, abs=1e-4)
    json.dumps(told, allow_nan=False)


@pytest.fixture
def facts(tmp_path, photo):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(photo).save(paths[-1])
    return Facts(["one", "two"], paths)


def feed(facts, tmp_path, photo, frame, layers=4, acknowledged=4):
    worse = tmp_path / f"received{frame}.png"
    Image.fromarray(photo // 2).save(worse)
    packed = {"budget_bytes": 5000, "capacity_bps": 64000, "layers_packed": 4, "q": 9, "analyze_s": 0.1, "pack_s": 0.1}
    facts.take("sender", {"event": "packed", "frame": frame, "name": "x", **packed})
    for layer in range(layers):
        facts.take("sender", {"event": "sent", "frame": frame, "layer": layer, "layers": 1, "size_bytes": 1000})
    for layer in range(acknowledged):
        facts.take("sender", {"event": "acked", "frame": frame, "layer": layer, "layers": 1, "delay_s": 0.2 + layer})
    picture = {"layers": layers, "decode_s": 0.1, "delay_s": 1.5, "size_bytes": 1000 * layers, "file": str(worse)}
    facts.take("receiver", {"event": "picture", "frame": frame, **picture})


def test_all_received_and_acknowledged_is_ok(facts, tmp_path, photo):
    assert not facts.counts()["ok"]
    feed(facts, tmp_path, photo, 0)
    feed(facts, tmp_path, photo, 1, layers=3, acknowledged=3)
    assert facts.counts() == {"ok": True, "pictures": 2, "lost": 0, "layers_sent": 7, "layers_acknowledged": 7}
    row = facts.rows[0]
    assert (row["sent_bytes"], row["size_bytes"], row["base_delay_s"], row["name"]) == (4000, 4000, 0.2, "one")


def test_a_lost_picture_or_acknowledgement_is_not_ok(facts, tmp_path, photo):
    feed(facts, tmp_path, photo, 0)
    assert facts.counts()["lost"] == 1
    assert not facts.counts()["ok"]
    feed(facts, tmp_path, photo, 1, acknowledged=3)
    assert facts.counts()["lost"] == 0
    assert not facts.counts()["ok"]


def test_events_of_frames_that_were_never_sent_are_ignored(facts):
    facts.take("sender", {"event": "acked", "frame": 7, "layer": 0, "delay_s": 1})
    assert len(facts.rows) == 2


def test_sheet_report_and_table_show_received_and_missing_pictures(facts, tmp_path, photo):
    feed(facts, tmp_path, photo, 0)
    sheet = draw(facts, "title", "subtitle")
    write_files(tmp_path, sheet, {"rows": facts.rows})
    assert json.loads((tmp_path / REPORT).read_text())["rows"][0]["jpeg"]["size_bytes"] <= 4000
    with Image.open(tmp_path / CONTACT_SHEET) as image:
        assert image.size == sheet.size
    assert not list(tmp_path.glob(".*"))
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(table(facts.rows, "title"))
    assert "…" not in shown.get()
    assert "4,000" in shown.get()


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_sheets_of_any_length_and_shape_have_room_for_all(count):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        image = rng.integers(0, 255, (100 + 90 * (number % 5), 600 - 100 * (number % 4), 3), dtype=np.uint8)
        rows.append([Cell(image, "1,000 bytes", "0.1 bpp"), Cell(None, "not received", ""), Cell(image, "x", "y")])
    sheet = np.asarray(draw_sheet("title", "subtitle", ("a", "b", "c"), rows))
    assert (sheet[:, -20:] == sheet[0, 0]).all()  # the margin is clear
    assert (sheet[-20:] == sheet[0, 0]).all()


def test_rates_read_well():
    assert [rate_text(rate) for rate in (None, 9600, 64e3, 1.5e6)] == [
        "unknown",
        "9.6 kbit/s",
        "64 kbit/s",
        "1.5 Mbit/s",
    ]
