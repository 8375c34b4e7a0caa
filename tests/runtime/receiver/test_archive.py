"""Archive: packets kept, found by embedding and time, and replaced or dropped."""

import sqlite3

import pytest

from edgesem.errors import InputError, UsageError
from edgesem.semantics.embedding import to_bytes
from runtime.receiver import archive as archive_module
from runtime.receiver.archive import FILE, Archive
from runtime.receiver.search import parse_time, search
from tests.support.embeddings import labels, packet, vector


def test_an_archive_finds_by_meaning_and_time_and_gives_packets_back(tmp_path):
    with Archive(tmp_path) as archive:
        for frame in range(20):
            archive.add("home/gate/main", packet(frame, to_bytes(vector(frame)), time_ms=frame), 1000.0 + frame)
        archive.add("home/yard/main", packet(3, to_bytes(vector(3)), time_ms=77), 1003.5)
        archive.add("home/yard/main", packet(4), 1004.0)
        query = labels().query_of("x", vector(3))
        hits, among = search(archive, query, most=2)
        assert [(hit.entry.stream, hit.entry.frame) for hit in hits] == [("home/gate/main", 3), ("home/yard/main", 3)]
        assert among == 21
        assert archive.packet(hits[0].entry).side_info.embedding == to_bytes(vector(3))
        assert len(search(archive, query, most=5, apart_s=60)[0]) == 2  # one a stream
        assert search(archive, query, since_s=1010)[0][0].entry.captured_s >= 1010
        assert search(archive, query, stream="home/yard/main")[1] == 1
    with Archive(tmp_path, create=False) as again:
        assert dict(again.streams()) == {"home/gate/main": 20, "home/yard/main": 2}


def test_a_frame_that_comes_again_with_more_layers_replaces_the_first(tmp_path):
    with Archive(tmp_path) as archive:
        for layers in (1, 3, 2):
            archive.add("a/b/c", packet(layers=layers), 1.0)
        entries, _ = archive.find()
        assert [entry.layers for entry in entries] == [3]


def test_the_oldest_make_room(tmp_path):
    with Archive(tmp_path, max_bytes=100 * packet().size_bytes) as archive:
        for frame in range(600):
            archive.add("a/b/c", packet(frame), float(frame))
        entries, _ = archive.find()
        assert entries[-1].frame == 599
        assert len(entries) < 300


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match="receive --archive"):
        Archive(tmp_path, create=False)
    (tmp_path / FILE).write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match="archive"):
        Archive(tmp_path)


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("30min", 1800), ("2h", 7200), ("1.5d", 129600)])
def test_a_time_ago(text, ago_s):
    assert parse_time(text, now_s=1e9) == 1e9 - ago_s


def test_a_time_by_date_and_what_is_none():
    assert parse_time("2026-11-22 14:30") == pytest.approx(parse_time("2026-11-22T14:30:00"))
    with pytest.raises(UsageError, match="time"):
        parse_time("yesterday")


def test_damaged_rows_are_left_out_and_a_damaged_file_is_one_error(tmp_path):
    with Archive(tmp_path) as archive:
        for frame in range(4):
            archive.add("home/gate/main", packet(frame, to_bytes(vector(frame)), time_ms=frame), 1000.0 + frame)
    with sqlite3.connect(tmp_path / FILE) as base:
        base.execute("update frames set packet = 'text' where frame = 0")
        base.execute("update frames set embedding = 'text' where frame = 1")
        base.execute("update frames set epoch = 'text', captured_s = x'00' where frame = 2")
    base.close()
    with Archive(tmp_path, create=False) as archive:
        entries, vectors = archive.find()
        assert [entry.frame for entry in entries] == [0, 1, 3]
        assert [bool(one.any()) for one in vectors] == [True, False, True]
        with pytest.raises(InputError, match="frame 0 of home/gate/main is damaged"):
            archive.packet(entries[0])
        assert archive.packet(entries[2]).frame == 3
    for path in tmp_path.iterdir():
        if path.name != FILE:
            path.unlink()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)
    with pytest.raises(InputError, match=FILE), Archive(tmp_path, create=False) as archive:
        archive.find()


def test_an_archive_is_not_for_all_users_of_the_machine(tmp_path):
    with Archive(tmp_path) as archive:
        archive.add("a/b/c", packet(1), 1.0)
        assert {path.stat().st_mode & 0o007 for path in tmp_path.iterdir()} == {0}


def test_on_a_disk_that_is_nearly_full_new_frames_take_the_place_of_old_ones(tmp_path, monkeypatch):
    with Archive(tmp_path) as archive:
        for frame in range(100):
            archive.add("a/b/c", packet(frame, time_ms=frame), float(frame))
        monkeypatch.setattr(archive_module, "_FREE_BYTES", 2**62)
        for frame in range(100, 200):
            archive.add("a/b/c", packet(frame, time_ms=frame), float(frame))
        entries, _ = archive.find()
    assert entries[-1].frame == 199
    assert len(entries) < 100
