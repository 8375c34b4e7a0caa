"""What a demo shows: the JPEG it compares with, its table, its contact sheet, its verdict."""

import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from edgesem.packet.packet import Packet
from runtime.capture.frame import PHOTOS
from runtime.capture.samples import sample_frames
from runtime.demo.compare import jpeg_within, measure, of_the_size_of
from runtime.demo.progress import Progress
from runtime.demo.report import CONTACT_SHEET, REPORT, draw, rate_text, table, write_files
from runtime.demo.sheet import Cell, draw_sheet
from runtime.protocol.topics import Topics
from runtime.receiver.received_picture import ReceivedPicture
from runtime.sender.events import FramePacked, LayersAcknowledged, LayersSent


@pytest.fixture(scope="module")
def photo():
    return next(iter(sample_frames(PHOTOS, 1))).image


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


def test_a_picture_that_the_sender_has_shrunk_is_compared_as_large_as_its_original(photo):
    small = np.asarray(Image.fromarray(photo).resize((photo.shape[1] // 2, photo.shape[0] // 2)))
    assert measure(photo, of_the_size_of(photo, small), 100)["ms_ssim"] > 0.8
    assert of_the_size_of(photo, photo) is photo


def test_equal_pictures_have_no_psnr_that_json_cannot_hold(photo):
    told = measure(photo, photo, 100)
    assert told["psnr_db"] is None
    assert told["ms_ssim"] == pytest.approx(1)
    assert told["bpp"] == pytest.approx(800 / 512 / 512, abs=1e-4)
    json.dumps(told, allow_nan=False)


@pytest.fixture
def progress(photo):
    return Progress(["one", "two"], [photo, photo])


def packed(row, frame=None):
    return FramePacked(row if frame is None else frame, str(row), 5000, 64_000, 4, 4000, 9, None, 0.1, 0.1)


def feed(progress, photo, row, layers=4, acknowledged=4, frame=None):
    """A picture is sent as a frame of so many layers of 1000 bytes, and received."""
    number = row if frame is None else frame
    progress.add_event(packed(row, frame))
    for layer in range(layers):
        progress.add_event(LayersSent(number, layer, 1, 1000))
    for layer in range(acknowledged):
        progress.add_event(LayersAcknowledged(number, layer, 1, 0.2 + layer, 0))
    height, width = photo.shape[:2]
    chunks = tuple(bytes(1000 - 2) for _ in range(layers))
    packet = Packet(7, 1, number, 0, width, height, 9, 4, 0, chunks)
    picture = ReceivedPicture("home/demo/main", Topics(), packet, photo // 2, 0, 0.1, 1.5, provenance=None)
    assert progress.row_of(picture) == row
    progress.add_picture(row, picture, f"received/{row:04d}.png")


def test_all_received_and_acknowledged_is_ok(progress, photo):
    assert not progress.counts()["ok"]
    feed(progress, photo, 0)
    feed(progress, photo, 1, layers=3, acknowledged=3)
    assert progress.counts() == {"ok": True, "pictures": 2, "lost": 0, "layers_sent": 7, "layers_acknowledged": 7}
    assert progress.is_complete()
    row = progress.rows[0]
    assert (row["sent_bytes"], row["base_delay_s"], row["name"]) == (4000, 0.2, "one")
    assert row["size_bytes"] == progress.packets[0].size_bytes


def test_a_lost_picture_or_acknowledgement_is_not_ok(progress, photo):
    feed(progress, photo, 0)
    assert progress.counts()["lost"] == 1
    assert not progress.is_complete()
    assert not progress.counts()["ok"]
    feed(progress, photo, 1, acknowledged=3)
    assert progress.counts()["lost"] == 0
    assert not progress.counts()["ok"]


def test_a_picture_that_was_sent_again_counts_once(progress, photo):
    progress.add_event(packed(0, frame=0))
    progress.add_event(LayersSent(0, 0, 4, 4000))  # and nobody has heard it
    feed(progress, photo, 0, frame=1)
    progress.add_event(LayersAcknowledged(0, 0, 4, 9.0, 0))
    progress.add_event(LayersAcknowledged(1, 3, 1, 9.0, 0))  # the same layer again
    assert (progress.rows[0]["layers_sent"], progress.rows[0]["layers_acknowledged"]) == (4, 4)
    assert progress.rows[0]["base_delay_s"] == 0.2


def test_a_picture_is_final_when_no_layer_of_it_can_come(progress, photo):
    feed(progress, photo, 0, layers=2)
    assert not progress.is_final(0)
    feed(progress, photo, 1)
    assert progress.is_final(0)
    assert progress.is_final(1)


def test_events_of_frames_that_were_never_sent_are_ignored(progress):
    progress.add_event(LayersAcknowledged(7, 0, 1, 1.0, 0))
    progress.add_event(packed(7))
    assert [set(row) for row in progress.rows] == [{"frame", "name"}] * 2


def test_sheet_report_and_table_show_received_and_missing_pictures(progress, tmp_path, photo):
    feed(progress, photo, 0)
    sheet = draw(progress, "title", "subtitle")
    write_files(tmp_path, sheet, {"rows": progress.rows})
    row = json.loads((tmp_path / REPORT).read_text())["rows"][0]
    assert row["jpeg"]["size_bytes"] <= row["size_bytes"]
    with Image.open(tmp_path / CONTACT_SHEET) as image:
        assert image.size == sheet.size
    assert not list(tmp_path.glob(".*"))
    console = Console(width=80, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(table(progress.rows, "title"))
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
