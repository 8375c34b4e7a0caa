"""A disk that is full: what is ordinary makes room, what is promised is kept, and nothing ends."""

import contextlib
import os
import subprocess
from itertools import count

import numpy as np
import pytest

from edgesem.errors import InputError
from edgesem.provenance import Provenance
from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.receive import _open_archive
from runtime.daemon.receive_settings import OutSettings
from runtime.protocol.topics import Topics
from runtime.receiver.archive import Archive
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.received_picture import ReceivedPicture
from tests.support.publishing import DEADLINE_S, codec, frame, wait_for

TOPICS = Topics("home", "cam", "main")
PIXELS = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)  # as a PNG about 12 kB
MIB = 1 << 20
numbers = count(1)


@pytest.fixture
def disk(tmp_path):
    """A file system of 48 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", folder], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"a file system needs root: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def free_bytes(disk):
    about = os.statvfs(disk)
    return about.f_bavail * about.f_frsize


def fill(disk, left_bytes):
    """Take all but so much with a file of somebody else; returns it."""
    ballast = disk / "ballast"
    with ballast.open("ab") as file:
        file.write(bytes(max(0, free_bytes(disk) - left_bytes)))
    return ballast


def picture(**changes):
    packet = frame(next(numbers), **changes)
    provenance = Provenance.of(packet, codec().bundle)
    return ReceivedPicture("home/cam/main", TOPICS, packet, PIXELS, 0, 0.0, 0.0, provenance)


@pytest.mark.parametrize("kind", ["png", "mkv"])
def test_ordinary_pictures_make_room_for_promised_ones(disk, kind):
    events = []
    settings = OutSettings(folder=disk, kind=kind, free_bytes=2 * MIB)
    with PictureOutputs(settings, events.append) as out:
        fill(disk, 2 * MIB + 200_000)
        for _ in range(60):
            out.put(picture())
        ordinary = [event["file"] for event in events if event["file"]]
        if kind == "png":
            assert out.deleted > 20
            assert out.unwritten == 0
            assert os.path.exists(ordinary[-1])
        assert free_bytes(disk) > MIB
        for _ in range(20):
            out.put(picture(promised=True))
        promised = [event["file"] for event in events if event["promised"]]
        assert all(os.path.exists(file) for file in promised)
        fill(disk, 0)
        out.put(picture())  # costs a counter
        fill(disk, 0)  # also what the ordinary ones have left
        with pytest.raises(InputError):
            out.put(picture(promised=True))  # the receiver notes that it was not written
        assert all(os.path.exists(file) for file in promised)
        assert out.unwritten >= 1


def test_a_promised_frame_is_acknowledged_only_where_there_is_room(disk):
    told = []
    with PromisedStore(disk, free_bytes=MIB) as store:
        ballast = fill(disk, MIB // 2)
        store.put(TOPICS, frame(next(numbers), promised=True), lambda safe, new: told.append((safe, new)))
        wait_for(lambda: told, DEADLINE_S)
        ballast.unlink()
        store.put(TOPICS, frame(next(numbers), promised=True), lambda safe, new: told.append((safe, new)))
        wait_for(lambda: len(told) == 2, DEADLINE_S)
    assert told == [(False, False), (True, True)]


def test_a_small_disk_is_used_and_promised_frames_have_a_part_of_it(disk, caplog):
    """Without a setting, an eighth of it is left free, and a 32nd part by promised frames."""
    out, told, events = OutSettings(folder=disk, kind="png"), [], []
    with _open_archive(out, disk, sync_promised=False) as archive, PictureOutputs(out, events.append) as outputs:
        for number in range(200):
            archive.add("home/cam/main", frame(number), float(number))
            outputs.put(picture())
        assert len(archive.entries()) == 200
        assert sum(bool(event["file"]) for event in events) == 200
        assert caplog.text == ""
        fill(disk, 5 * MIB)
        for number in range(200, 300):
            archive.add("home/cam/main", frame(number), float(number))
        assert "and 6 MiB stay free (out.free_bytes, --free-bytes)" in caplog.text
        assert archive.entries()[-1].frame == 299
        with PromisedStore(disk) as store:
            store.put(TOPICS, frame(next(numbers), promised=True), lambda safe, new: told.append((safe, new)))
            wait_for(lambda: told, DEADLINE_S)
        assert told == [(True, True)]


def test_an_archive_on_a_full_disk_takes_new_frames_for_old_ordinary_ones(disk):
    with Archive(disk, free_bytes=32 * MIB) as archive:
        for number in range(200):
            archive.add("home/cam/main", frame(number, promised=number < 20), float(number))
        fill(disk, 20 * MIB)
        for number in range(200, 500):
            archive.add("home/cam/main", frame(number), float(number))
        kept = archive.entries()
        assert kept[-1].frame == 499
        assert [entry.frame for entry in kept if entry.promised] == list(range(20))
        assert free_bytes(disk) > 15 * MIB  # it has not grown by all of them
        ballast = fill(disk, 0)
        with contextlib.suppress(InputError):  # not a byte is left, not even for its journal
            for number in range(500, 600):
                archive.add("home/cam/main", frame(number), float(number))
        assert archive.packet(kept[0]).frame == 0
        with contextlib.suppress(InputError):
            archive.tidy()
        ballast.unlink()
        archive.add("home/cam/main", frame(900), 900.0)
        assert archive.entries()[-1].frame == 900
    with Archive(disk, create=False) as again:
        assert again.packet(again.entries()[-1]).frame == 900


@pytest.mark.parametrize("made_before", [False, True])
def test_an_archive_on_a_disk_that_is_full_at_the_start_is_opened_once_there_is_room(disk, made_before, caplog):
    """A receiver starts with a full disk, too: its live page and its promised frames need none of the archive."""
    if made_before:
        with Archive(disk) as archive:
            archive.add("home/cam/main", frame(1), 1.0)
    ballast = fill(disk, 0)
    with Archive(disk) as archive:
        assert "tried again" in caplog.text
        with pytest.raises(InputError):
            archive.add("home/cam/main", frame(2), 2.0)
        ballast.unlink()
        archive.add("home/cam/main", frame(3), 3.0)
        assert [entry.frame for entry in archive.entries()] == ([1, 3] if made_before else [3])
