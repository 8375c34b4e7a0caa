"""The spool on disk: damaged, shared, or not ours."""

import contextlib
import os
import sqlite3
import subprocess

import pytest

from edgesem.errors import InputError
from runtime.sender.spool import Spool, SpoolFull


def test_a_damaged_spool_is_put_aside(tmp_path):
    path = tmp_path / "a.spool"
    path.write_bytes(b"no database" * 1000)
    spool = Spool(path, max_bytes=10**6)
    spool.add(epoch=1, frame=2, packet=b"x")
    spool.close()
    assert [p.name for p in tmp_path.glob("a.spool.damaged-*")]


def test_two_senders_cannot_share_a_spool(tmp_path):
    spool = Spool(tmp_path / "a.spool", max_bytes=10**6)
    spool.add(epoch=1, frame=2, packet=b"x")
    with pytest.raises(InputError, match=r"another sender of this stream runs .*--device"):
        Spool(tmp_path / "a.spool", max_bytes=10**6)
    assert spool.delivered([(1, 2), (1, 3)]) == 1
    assert spool.waiting == 0
    spool.close()


def test_a_spool_of_a_stranger_is_an_error(tmp_path):
    path = tmp_path / "a.spool"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE promised (other INTEGER)")
    db.close()
    with pytest.raises(InputError, match="cannot keep"):
        Spool(path, max_bytes=10**6)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of so many bytes; needs root."""
    mounted = []

    def mount(size):
        folder = tmp_path / "disk"
        folder.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
        if made.returncode:
            pytest.skip("needs root, to make a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(spool, size_bytes):
    """Add frames of so many bytes until the spool takes no more; their keys."""
    keys = []
    with contextlib.suppress(SpoolFull):
        while True:
            spool.add(epoch=1, frame=len(keys), packet=os.urandom(size_bytes))
            keys.append((1, len(keys)))
    return keys


@pytest.mark.parametrize("size_bytes", [3000, 60000])
@pytest.mark.parametrize("disk_bytes", [1 << 20, 3 << 20, 6 << 20])
def test_a_spool_that_has_filled_its_disk_can_be_emptied(small_disk, disk_bytes, size_bytes):
    disk = small_disk(disk_bytes)
    spool = Spool(disk / "x" / "a.spool", max_bytes=1 << 28)
    keys = fill(spool, size_bytes)
    with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
        while True:  # somebody else takes the very last bytes
            other.write(bytes(4096))
    assert spool.delivered(keys[:20]) + spool.delivered(keys[20:]) == len(keys) > 5
    (disk / "other").unlink()
    spool.add(epoch=2, frame=0, packet=b"x" * size_bytes)
    spool.close()
    spool = Spool(disk / "x" / "a.spool", max_bytes=1 << 28)
    assert (spool.waiting, spool.lost) == (1, 0)
    spool.close()


def test_on_a_full_or_read_only_disk_nothing_is_promised_and_it_says_why(small_disk):
    disk = small_disk(1 << 20)
    with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
        while True:
            other.write(bytes(4096))
    full = Spool(disk / "x" / "a.spool", max_bytes=1 << 28)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    read_only = Spool(disk / "y" / "a.spool", max_bytes=1 << 28)
    for spool in (full, read_only):
        assert spool.waiting == 0
        assert 0 <= spool.next_epoch() < 2**16
        with pytest.raises(SpoolFull, match=r"space|full|Read-only|readonly|unable"):
            spool.add(epoch=1, frame=1, packet=b"x")
        spool.close()


def test_starts_are_counted_whatever_the_clock_says(tmp_path, monkeypatch):
    def start(unix_s):
        monkeypatch.setattr("runtime.sender.spool.time.time", lambda: unix_s)
        spool = Spool(tmp_path / "a.spool", max_bytes=10**6)
        try:
            return spool.next_start()
        finally:
            spool.close()

    first = start(1_800_000_000)
    assert first == 1_800_000_000
    assert [start(0), start(5), start(1_799_999_000)] == [first + 1, first + 2, first + 3]
    (tmp_path / "a.spool").write_bytes(b"no database" * 1000)  # the counter outlives a damaged spool
    assert start(7) == first + 4


def test_frames_that_a_disk_has_lost_are_counted(tmp_path, caplog):
    path = tmp_path / "a.spool"
    spool = Spool(path, max_bytes=10**6)
    spool.add(epoch=1, frame=1, packet=b"x" * 100)
    spool.close()
    before = path.read_bytes()
    spool = Spool(path, max_bytes=10**6)
    for frame in (2, 3):
        spool.add(epoch=1, frame=frame, packet=b"x" * 100)
    spool.delivered([(1, 2)])
    spool.close()
    path.write_bytes(before)  # what was written last is gone
    spool = Spool(path, max_bytes=10**6)
    assert (spool.lost, spool.waiting) == (2, 1)
    assert "2 promised frames" in caplog.text
    spool.close()
    path.write_bytes(b"no database" * 1000)
    spool = Spool(path, max_bytes=10**6)
    assert (spool.lost, spool.waiting) == (1, 0)
    spool.close()


def test_a_spool_is_closed_to_other_users(tmp_path):
    spool = Spool(tmp_path / "deep" / "a.spool", max_bytes=10**6)
    spool.add(epoch=1, frame=1, packet=b"x" * 100)
    assert [path.name for path in tmp_path.rglob("*") if path.stat().st_mode & 0o077] == []
    spool.close()


def test_dead_letters_give_way_to_new_frames(tmp_path):
    spool = Spool(tmp_path / "a.spool", max_bytes=100_000)
    for frame in range(2):
        spool.reject(spool.add(epoch=1, frame=frame, packet=bytes(50_000)), "nobody takes it")
    spool.note_rejected()
    spool.add(epoch=1, frame=2, packet=bytes(50_000))
    assert (spool.waiting, spool.rejected, spool.lost) == (1, 0, 2)
    with contextlib.suppress(SpoolFull):
        for frame in range(3, 9):
            spool.add(epoch=1, frame=frame, packet=bytes(50_000))
    with pytest.raises(SpoolFull):
        spool.add(epoch=1, frame=9, packet=bytes(50_000))
    assert spool.get(3) is not None  # one that waits gives way to none
    spool.close()
