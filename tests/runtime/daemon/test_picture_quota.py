"""Room on the disk: ordinary pictures give way to promised frames, the oldest first."""

import os
import shutil
from itertools import count

import numpy as np
import pytest

from edgesem.errors import InputError
from edgesem.provenance import Provenance
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
    return PictureOutputs(OutSettings(folder=folder, **settings), events.append)


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

    with PictureOutputs(OutSettings(folder=tmp_path), fail) as out:
        out.put(picture())
    assert out.pictures == 1
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_pictures_are_not_for_all_users_of_the_machine(tmp_path):
    with outputs(tmp_path, []) as out:
        out.put(picture())
        out.put(picture(promised=True))
    assert {path.stat().st_mode & 0o007 for path in tmp_path.rglob("*.png")} == {0}
