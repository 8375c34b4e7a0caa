"""Room on the disk: ordinary pictures give way to promised frames, the oldest first."""

import io
import os
import shutil
import time
from collections import OrderedDict
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from edgesem.errors import InputError, UsageError
from edgesem.provenance import Provenance, read_provenance
from runtime.daemon import picture_quota
from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.picture_quota import PictureQuota
from runtime.daemon.receive_settings import OutSettings
from runtime.protocol.topics import Topics
from runtime.receiver.received_picture import ReceivedPicture
from tests.support.publishing import codec, frame

TOPICS = Topics("home", "cam", "main")
PIXELS = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)  # as a PNG about 12 kB
numbers = count()


def picture(**changes):
    packet = frame(next(numbers), **changes)
    return ReceivedPicture(
        "home/cam/main", TOPICS, packet, PIXELS, 0, 0.0, 0.0, Provenance.of(packet, codec().bundle, steps=0)
    )


def outputs(folder, events, **settings):
    return PictureOutputs(OutSettings(**{"folder": folder, "kind": "png", **settings}), events.append)


def test_the_oldest_ordinary_pictures_make_room_and_nothing_else_is_deleted(tmp_path):
    events = []
    (tmp_path / "home/cam/main/promised").mkdir(parents=True)
    kept = [
        tmp_path / "home/cam/main/promised/20260101T000000.000Z-00001-0000000001.es",
        tmp_path / "home/cam/main/my.png",
    ]
    for path in kept:
        path.write_bytes(bytes(50_000))
        os.utime(path, (1, 1))
    with outputs(tmp_path, events, max_bytes=100_000) as out:
        for _ in range(30):
            out.put(picture())
        files = [event["file"] for event in events]
        assert all(files)
        there = [os.path.exists(file) for file in files]
        assert 4 <= sum(there) <= 10
        assert there == sorted(there)  # the oldest have gone
        assert out.deleted == 30 - sum(there)
        assert out.unwritten == 0
    assert all(path.exists() for path in kept)


def test_a_full_disk_takes_no_more_ordinary_pictures_and_still_the_promised_ones(tmp_path):
    events = []
    with outputs(tmp_path, events, free_bytes=2**49) as out:
        out.put(picture())
        out.put(picture(promised=True))
    assert [event["file"] is not None for event in events] == [False, True]
    assert out.unwritten == 1


def test_what_earlier_runs_have_left_counts(tmp_path):
    folder = tmp_path / "home/cam/main"
    folder.mkdir(parents=True)
    for number in range(10):
        path = folder / f"20260101T000000.000Z-00001-{number:010d}.png"
        path.write_bytes(bytes(1000))
        os.utime(path, (number + 1, number + 1))
    quota = PictureQuota(tmp_path, max_bytes=4000, free_bytes=0)
    assert quota.make_room()
    assert sorted(int(path.stem[-10:]) for path in folder.iterdir()) == [6, 7, 8, 9]


def test_a_promised_picture_that_could_not_be_written_is_told_to_the_receiver(tmp_path):
    events = []
    with outputs(tmp_path, events) as out:
        (tmp_path / "home").write_text("in the way")
        with pytest.raises(InputError):
            out.put(picture(promised=True))
        out.put(picture())  # an ordinary one costs a counter
    assert out.unwritten == 2
    assert shutil.disk_usage(tmp_path).free


def test_an_event_that_cannot_be_told_costs_nothing_else(tmp_path):
    def fail(_):
        raise RuntimeError("a defect")

    with PictureOutputs(OutSettings(folder=tmp_path, kind="png"), fail) as out:
        out.put(picture())
    assert out.pictures == 1
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_pictures_are_not_for_all_users_of_the_machine(tmp_path):
    with outputs(tmp_path, []) as out:
        out.put(picture())
        out.put(picture(promised=True))
    assert {path.stat().st_mode & 0o007 for path in tmp_path.rglob("*.png")} == {0}


def test_pictures_that_cannot_be_deleted_are_not_tried_for_ever(tmp_path, monkeypatch):
    tried = []

    def refuse(path):
        tried.append(path)
        assert len(tried) < 100
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(picture_quota.os, "unlink", refuse)
    folder = tmp_path / "home/cam/main"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"20260101T000000.000Z-00001-{number:010d}.png").write_bytes(bytes(1000))
    quota = PictureQuota(tmp_path, max_bytes=1000, free_bytes=0)
    assert not quota.make_room()
    assert not quota.make_room()
    assert len(tried) == 5


@pytest.mark.parametrize("senders", [1, 2])
def test_two_senders_under_one_name_get_a_video_each(tmp_path, senders):
    """With pictures of two sizes in turn, one video would be a file for each picture."""
    with outputs(tmp_path, [], kind="mkv") as out:
        stream = SimpleNamespace(has_two_senders=senders == 2)
        out.receiver = SimpleNamespace(streams=SimpleNamespace(find=lambda _: stream))
        for number in range(12):
            sender = number % senders
            one = picture(epoch=1 + sender)
            out.put(replace(one, image=PIXELS[: 32 * (1 + sender)]))
    assert len(list(tmp_path.rglob("*.mkv"))) == senders


def test_videos_whose_disk_is_full_at_the_end_are_all_closed(tmp_path, caplog):
    with outputs(tmp_path, [], kind="mkv") as out:
        for name in ("a", "b"):
            out._videos[name] = OrderedDict({None: BrokenVideo()})
        videos = [video for one in out._videos.values() for video in one.values()]
        out.forget("a")
    assert [video.closed for video in videos] == [1, 1]
    assert caplog.text.count("the disk is full") == 2


class BrokenVideo:
    """A video that cannot be finished."""

    closed = 0

    def close(self):
        self.closed += 1
        raise InputError("the disk is full")


@pytest.mark.parametrize("kind", ["png", "jpg", "mkv"])
def test_a_stamp_is_on_all_that_is_shown_and_leaves_the_metadata(tmp_path, kind):
    """`auto` with steps: what was invented is said on the picture, without being asked for."""
    events = []
    with outputs(tmp_path, events, kind=kind, http="0") as out:
        for promised in (False, True):
            out.put(replace(picture(promised=promised), steps=2))
        jpeg = out.gallery.latest("home/cam/main").jpeg
    for event in events:
        path = Path(event["file"])
        if path.suffix == ".mkv":
            with av.open(str(path)) as video:
                shown = next(video.decode(video=0)).to_ndarray(format="rgb24")
        else:
            with Image.open(path) as image:
                shown = np.asarray(image)
            assert read_provenance(path).frame == event["frame"]
        assert is_stamped(shown)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert is_stamped(np.asarray(image))
    with outputs(tmp_path / "off", events, stamp="off") as out:
        out.put(replace(picture(), steps=2))
    with Image.open(events[-1]["file"]) as image:
        assert np.array_equal(np.asarray(image), PIXELS)


def is_stamped(image):
    """Whether the lower edge is the stamp's paper, and the upper half is the noise that it was."""
    return image[-2:, :40].mean() < 40 and abs(image[:32].mean() - PIXELS[:32].mean()) < 8


def put_files(folder, count, suffix, *, step_s):
    """Files as a receiver writes them, each `step_s` older than the one before; the first is new."""
    folder.mkdir(parents=True, exist_ok=True)
    now_s = time.time()
    for number in range(count):
        path = folder / f"20260101T000000.000Z-00001-{number:010d}{suffix}"
        path.write_bytes(bytes(1000))
        os.utime(path, (now_s - step_s * number,) * 2)


def numbers_in(folder, suffix):
    return sorted(int(path.stem[-10:]) for path in folder.glob(f"*{suffix}"))


def test_what_is_too_old_goes_ordinary_pictures_before_promised_ones(tmp_path):
    home = tmp_path / "home/cam/main"
    put_files(home, 10, ".png", step_s=86_400)
    put_files(home / "promised", 10, ".es", step_s=86_400)
    put_files(home / "promised", 10, ".png", step_s=86_400)
    (home / "mine.png").write_bytes(b"")
    os.utime(home / "mine.png", (1, 1))
    with outputs(tmp_path, [], max_age="3.5d", promised_max_age="7.5d") as out:
        out.tidy()
        out.tidy()
        assert out.deleted == 6 + 2 * 2
    assert numbers_in(home, "0.png") + numbers_in(home, "[1-9].png") == [0, 1, 2, 3]
    assert numbers_in(home / "promised", ".es") == numbers_in(home / "promised", ".png") == list(range(8))
    assert (home / "mine.png").exists()


def test_promised_frames_are_deleted_only_where_that_was_asked_for(tmp_path):
    home = tmp_path / "home/cam/main"
    put_files(home / "promised", 10, ".es", step_s=86_400)
    for settings, left in (({"max_age": "1d", "max_bytes": 1}, 10), ({"promised_max_bytes": 4000}, 4)):
        with outputs(tmp_path, [], **settings) as out:
            out.tidy()
        assert numbers_in(home / "promised", ".es") == list(range(left))


def test_a_deleted_promised_frame_gives_its_device_the_room_back(tmp_path):
    forgotten = []
    with outputs(tmp_path, [], promised_max_bytes=1) as out:
        out.receiver = SimpleNamespace(
            forget_promised=lambda path, size_bytes: forgotten.append((path.name, size_bytes))
        )
        put_files(tmp_path / "home/cam/main/promised", 2, ".es", step_s=2 * 86_400)
        out.tidy()
    assert forgotten == [("20260101T000000.000Z-00001-0000000001.es", 1000)]


def test_videos_of_one_run_make_room_for_each_other(tmp_path):
    """Each of another size than the one before, so that it gets a file of its own."""
    sizes_bytes = []
    with outputs(tmp_path, [], kind="mkv", max_bytes=40_000) as out:
        for number in range(48):
            side = 48 + 16 * (number // 4 % 2)
            out.put(replace(picture(), image=PIXELS[:side, :side]))
            for path in tmp_path.rglob("*.mkv"):
                os.utime(path, (time.time() - 1000 + number,) * 2)
            sizes_bytes.append(sum(path.stat().st_size for path in tmp_path.rglob("*.mkv")))
        assert out.deleted
        assert out.unwritten == 0
    assert max(sizes_bytes) < 60_000


def test_a_promised_frame_has_a_day_to_be_drawn_before_it_makes_room(tmp_path):
    home = tmp_path / "home/cam/main/promised"
    put_files(home, 6, ".es", step_s=3600)
    put_files(home, 3, ".png", step_s=3600)
    put_files(home, 4, ".drawn", step_s=3600)
    with outputs(tmp_path, [], promised_max_bytes=1, promised_max_age="1h", max_age="1h") as out:
        out.tidy()
    assert numbers_in(home, ".es") == [4, 5]


def test_a_clock_that_is_ahead_deletes_nothing_by_age(tmp_path):
    home = tmp_path / "home/cam/main"
    for folder, suffix in ((home, ".png"), (home / "promised", ".png")):
        put_files(folder, 3, suffix, step_s=3600)
        for path in folder.glob("*.png"):
            os.utime(path, (path.stat().st_mtime - 20 * 365 * 86_400,) * 2)  # as a clock sees them that is so far ahead
    with outputs(tmp_path, [], max_age="3d", promised_max_age="7d") as out:
        out.tidy()
        assert out.deleted == 0


def test_a_video_that_has_grown_since_is_not_too_old(tmp_path):
    home = tmp_path / "home/cam/main"
    home.mkdir(parents=True)
    video = home / "video.mkv"
    video.write_bytes(bytes(10))
    os.utime(video, (time.time() - 100,) * 2)
    quota = PictureQuota(tmp_path, max_bytes=0, free_bytes=0, max_age_s=3600)
    quota.tidy()
    os.utime(video, (time.time() - 90_000,) * 2)
    quota._age_limit.max_age_s = 80.0
    video.write_bytes(bytes(20))
    quota.tidy()
    assert video.exists()


@pytest.mark.parametrize(
    "settings", [{"max_age": "often"}, {"promised_max_age": "1d"}, {"max_age": "2d", "promised_max_age": "1d"}]
)
def test_retention_that_cannot_be_is_refused(settings):
    with pytest.raises(UsageError):
        OutSettings(**settings)
