"""Pictures to send: those that ship, a folder's, a video's."""

import csv

import numpy as np
import pytest
from PIL import Image

from edgesem.errors import InputError
from runtime.capture.frame import MAX_SIDE, PHOTOS
from runtime.capture.samples import sample_frames
from tests.support.videos import greys, write_video


def save(path, width=100, height=80, colour=(255, 0, 0), **options):
    Image.new("RGB", (width, height), colour).save(path, **options)


def test_at_least_twelve_photographs_ship_with_source_and_licence():
    frames = list(sample_frames(PHOTOS, 100))
    assert len(frames) >= 12
    assert all(frame.image.dtype == np.uint8 and frame.image.shape[2] == 3 for frame in frames)
    with (PHOTOS / "SOURCES.tsv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"].removesuffix(".jpg"): row for row in csv.DictReader(file, delimiter="\t")}
    assert {frame.name for frame in frames} == set(rows)
    assert {row["licence"] for row in rows.values()} <= {"CC-BY-SA-4.0", "CC-BY-4.0"}
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) < 1_500_000


def test_a_folder_is_sampled_evenly_in_order(tmp_path):
    for number in range(10):
        save(tmp_path / f"{number}.png", colour=(number, 0, 0))
    (tmp_path / "notes.txt").write_text("not a picture")
    assert [int(frame.image[0, 0, 0]) for frame in sample_frames(tmp_path, 5)] == [0, 2, 4, 6, 8]
    assert len(list(sample_frames(tmp_path, 99))) == 10


def test_pictures_stand_upright_and_are_no_larger_than_needed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    save(tmp_path / "phone.jpg", width=3000, height=2000, exif=exif)
    save(tmp_path / "small.png", width=64, height=65)
    large, small = sample_frames(tmp_path, 2)
    assert large.image.shape == (MAX_SIDE, round(MAX_SIDE * 2 / 3), 3)
    assert small.image.shape == (65, 64, 3)


@pytest.mark.parametrize("size", [(63, 200), (5000, 100)])
def test_pictures_too_small_for_the_codec_are_refused(tmp_path, size):
    save(tmp_path / "thin.png", *size)
    with pytest.raises(InputError, match="thin"):
        list(sample_frames(tmp_path, 1))


def test_what_is_not_there_or_not_a_picture_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        list(sample_frames(tmp_path, 1))
    with pytest.raises(InputError, match="neither"):
        list(sample_frames(tmp_path / "nowhere", 1))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    with pytest.raises(InputError, match="broken"):
        list(sample_frames(tmp_path, 1))
    with pytest.raises(InputError, match="video"):
        list(sample_frames(tmp_path / "broken.png", 1))


def test_a_video_is_sampled_evenly(tmp_path):
    write_video(tmp_path / "clip.mp4", greys(range(20, 220, 5)))
    frames = list(sample_frames(tmp_path / "clip.mp4", 4))
    numbers = [(frame.image.mean() - 20) / 5 for frame in frames]
    assert numbers == pytest.approx([5, 15, 25, 35], abs=1.5)
    assert [frame.name for frame in frames] == ["clip-0000", "clip-0001", "clip-0002", "clip-0003"]


def test_a_short_video_gives_each_frame_once(tmp_path):
    write_video(tmp_path / "clip.mp4", greys((20, 25, 30)))
    assert 1 <= len(list(sample_frames(tmp_path / "clip.mp4", 50))) <= 3
