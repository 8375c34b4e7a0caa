"""Archive: packets kept, found by embedding and time, and replaced or dropped."""

import sqlite3
import time

import pytest

from edgesem.errors import InputError, UsageError
from edgesem.semantics.embedding import to_bytes
from runtime.receiver import archive as archive_module
from runtime.receiver.archive import Archive
from runtime.receiver.archive_file import FILE
from runtime.receiver.search import search
from runtime.receiver.times import parse_time
from tests.support.embeddings import labels, packet, vector
from tests.support.publishing import frame as photo


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
        assert {one.stream: one.frames for one in again.streams()} == {"home/gate/main": 20, "home/yard/main": 2}


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


def test_on_a_disk_that_is_nearly_full_new_frames_take_the_place_of_old_ones(tmp_path, caplog):
    with Archive(tmp_path) as archive:
        for frame in range(100):
            archive.add("a/b/c", packet(frame, time_ms=frame), float(frame))
    with Archive(tmp_path, free_bytes=2**62) as archive:
        for frame in range(100, 200):
            archive.add("a/b/c", packet(frame, time_ms=frame), float(frame))
        entries, _ = archive.find()
    assert entries[-1].frame == 199
    assert len(entries) < 100
    assert caplog.text.count("the oldest frames make room") == 1  # its owner would else find it out much later


def test_a_disk_that_stays_full_does_not_empty_an_archive_frame_by_frame(tmp_path):
    with Archive(tmp_path) as archive:
        for number in range(500):
            archive.add("a/b/c", photo(number), float(number))
    with Archive(tmp_path, free_bytes=2**62) as archive:
        for number in range(500, 600):
            archive.add("a/b/c", photo(number), float(number))
        entries, _ = archive.find()
    assert entries[-1].frame == 599
    assert len(entries) > 400


def test_a_full_archive_is_not_read_through_to_see_that_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "_PRUNE_EVERY", 1)
    with Archive(tmp_path, max_bytes=400_000) as archive:
        for number in range(500):
            archive.add("a/b/c", photo(number), float(number))
        steps = []
        archive._base.set_progress_handler(lambda: steps.append(1) and None, 10)
        for number in range(500, 600):
            archive.add("a/b/c", photo(number), float(number))
        assert len(steps) < 100 * 100
        assert 200 < len(archive.find()[0]) < 400


def frames_of(archive, *, promised):
    return [entry.frame for entry in archive.entries() if entry.promised == promised]


def test_ordinary_frames_make_room_before_promised_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "_PRUNE_EVERY", 1)
    with Archive(tmp_path, max_bytes=120_000) as archive:
        for number in range(300):
            archive.add("a/b/c", photo(number, promised=number < 40), float(number))
        ordinary = frames_of(archive, promised=False)
        assert frames_of(archive, promised=True) == list(range(40))  # though they are the oldest
        assert ordinary[-1] == 299
        assert len(ordinary) < 100
        for number in range(300, 600):
            archive.add("a/b/c", photo(number, promised=True), float(number))
        assert frames_of(archive, promised=False) == []
        assert frames_of(archive, promised=True)[-1] == 599
        assert frames_of(archive, promised=True)[0] > 0  # at last the oldest of them, too


def test_what_is_too_old_goes_and_the_file_shrinks(tmp_path):
    now_s = time.time()
    with Archive(tmp_path) as archive:
        for number in range(400):
            archive.add("a/b/c", photo(number, promised=number % 100 == 0), now_s - 3600 * number)
    before_bytes = (tmp_path / FILE).stat().st_size
    with Archive(tmp_path, max_age_s=9.5 * 3600, promised_max_age_s=250 * 3600) as archive:
        archive.tidy()
        assert sorted(frames_of(archive, promised=False)) == list(range(1, 10))
        assert sorted(frames_of(archive, promised=True)) == [0, 100, 200]
    assert (tmp_path / FILE).stat().st_size < before_bytes / 4


def test_a_clock_that_is_ahead_empties_no_archive(tmp_path):
    with Archive(tmp_path, max_age_s=3600, promised_max_age_s=3600) as archive:
        for number in range(4):
            archive.add("a/b/c", photo(number, promised=number % 2 == 0), time.time() - 20 * 365 * 86_400)
        archive.tidy()
        assert len(archive.entries()) == 4


def test_an_archive_of_the_version_before_is_read_and_added_to(tmp_path):
    with Archive(tmp_path) as archive:
        archive.add("a/b/c", photo(1), 1.0)
    with sqlite3.connect(tmp_path / FILE) as base:
        base.execute("drop index by_worth")
        base.execute("alter table frames drop column promised")
        base.execute("alter table frames drop column grey")
    base.close()
    with Archive(tmp_path) as archive:
        archive.add("a/b/c", photo(2, promised=True), 2.0)
        assert [entry.promised for entry in archive.entries()] == [False, True]
        assert archive.packet(archive.entries()[0]).frame == 1


def test_promised_frames_are_synced_to_the_disk_where_a_catalogue_takes_them_later(tmp_path):
    with Archive(tmp_path, sync_promised=True) as archive:
        for number, promised in enumerate((False, True, False)):
            archive.add("a/b/c", photo(number, promised=promised), float(number))
            full = archive._base.execute("pragma synchronous").fetchone()[0] == 2
            assert full == promised
