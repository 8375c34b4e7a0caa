"""Uploader, catalogue and objects with a real PostgreSQL and a real object store."""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import time
from dataclasses import replace

import pytest

from edgesem.cli.main import main
from edgesem.errors import InputError, LinkError, UsageError
from edgesem.packet.event_mark import EventMark
from edgesem.semantics.embedding import to_bytes
from runtime.catalogue.block import BLOCK_FRAMES
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.database import PASSWORD_VARIABLE, Database
from runtime.catalogue.migrations import migrate
from runtime.catalogue.objects import open_objects
from runtime.catalogue.search import search
from runtime.catalogue.tidy import tidy
from runtime.catalogue.uploader import Uploader, segment_name
from runtime.receiver.archive import Archive
from runtime.receiver.archive_file import FILE
from runtime.receiver.archive_spool import ArchiveSpool
from runtime.receiver.search import search as search_archive
from tests.support.embeddings import labels, packet, vector
from tests.support.postgres import PASSWORD, needs_postgres, running_postgres
from tests.support.publishing import wait_for
from tests.support.swift_server import needs_swift, running_swift

pytestmark = needs_postgres
GATE, YARD = "home/gate/main", "home/yard/main"


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(postgres, monkeypatch):
    """An empty database."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with Database(postgres.url) as opened:
        with opened.connection() as connection:
            connection.execute("drop schema if exists edgesem cascade")
        yield opened


def fill(archive, stream, frames, **changes):
    for number in frames:
        archive.add(stream, packet(number, to_bytes(vector(number)), time_ms=number, **changes), 1000.0 + number)


def bring(database, place, folder):
    """Bring all that is archived, and end."""
    with Uploader(database, str(place), folder, period_s=0.1) as uploader, ArchiveSpool(folder) as spool:
        wait_for(lambda: uploader.uploaded and not spool.waiting)
    return uploader


def frames_of(catalogue, **window):
    return sorted((one.stream, one.frame, one.layers) for one in catalogue.entries(**window))


def test_frames_of_two_receivers_are_found_in_one_place(database, tmp_path):
    place = tmp_path / "objects"
    for number, stream in enumerate((GATE, YARD)):
        with Archive(tmp_path / str(number)) as archive:
            fill(archive, stream, range(number * 300, number * 300 + 250))
            bring(database, place, tmp_path / str(number))
    with Catalogue(database) as catalogue:
        assert {one.stream: (one.frames, one.first_s, one.last_s) for one in catalogue.streams()} == {
            GATE: (250, 1000.0, 1249.0),
            YARD: (250, 1300.0, 1549.0),
        }
        for entry in catalogue.entries(since_s=1240, until_s=1310):
            assert catalogue.packet(entry) == packet(entry.frame, to_bytes(vector(entry.frame)), time_ms=entry.frame)
        assert catalogue.newest(GATE, 1100.5).frame == 100
        assert catalogue.newest(GATE, 999.0) is None
        assert [one.frame for one in catalogue.spread(YARD, 1300, 1400, 5)] == [300, 320, 340, 360, 380]
        assert catalogue.earlier(catalogue.newest(GATE, 1100), 42)[0].frame == 42
        with pytest.raises(InputError, match="refers to frame 7"):
            catalogue.earlier(catalogue.newest(YARD, 1400), 7)
        query = labels().query_of("x", vector(333))
        hits, among = search(catalogue, query, most=3)
        assert (hits[0].entry.stream, hits[0].entry.frame, among) == (YARD, 333, 500)
        assert hits[0].similarity > 0.98
        assert [one.similarity for one in hits] == sorted((one.similarity for one in hits), reverse=True)


def test_a_search_finds_what_an_archive_finds(database, tmp_path):
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(3 * BLOCK_FRAMES + 7))
        fill(archive, YARD, range(50, 120))
        bring(database, tmp_path / "objects", tmp_path / "a")
        with Catalogue(database) as catalogue:
            for seed in (3, 60, 1000):
                query = labels().query_of("x", vector(seed))
                for window in (
                    {},
                    {"stream": YARD},
                    {"stream": "no/such/stream"},
                    {"since_s": 1040.0, "until_s": 1060.5},
                    {"since_s": 5000.0},
                    {"apart_s": 30.0, "most": 12},
                    {"most": 400},
                ):
                    ours, ours_among = search(catalogue, query, **window)
                    theirs, among = search_archive(archive, query, **window)
                    assert ours_among == among
                    found = [(one.entry.stream, one.entry.frame) for one in ours]
                    assert found == [(one.entry.stream, one.entry.frame) for one in theirs], (seed, window)
                    assert [one.similarity for one in ours] == pytest.approx(
                        [one.similarity for one in theirs], abs=1e-5
                    )


def test_a_search_leaves_a_damaged_row_out(database, tmp_path, caplog):
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(20))
        bring(database, tmp_path / "objects", tmp_path / "a")
    with database.connection() as connection:
        connection.execute("update edgesem.frames set captured_s = 'NaN' where frame = 3")
    with Catalogue(database) as catalogue:
        hits, among = search(catalogue, labels().query_of("x", vector(3)), most=19)
    assert (len(hits), among) == (19, 20)
    assert 3 not in {one.entry.frame for one in hits}
    assert "frame 3 of home/gate/main" in caplog.text


def test_frames_are_catalogued_once_and_more_layers_replace_fewer(database, tmp_path):
    place = tmp_path / "objects"
    for receiver in "ab":  # both took the same frames, as while a stream moves
        with Archive(tmp_path / receiver) as archive:
            fill(archive, GATE, range(20), layers=1 + (receiver == "b"))
            brings = Uploader(database, str(place), tmp_path / receiver, period_s=0.1)
            with brings, ArchiveSpool(tmp_path / receiver) as spool:
                wait_for(lambda spool=spool: not spool.waiting)
                fill(archive, GATE, range(5), layers=3)
                wait_for(lambda spool=spool: not spool.waiting)
    with Catalogue(database) as catalogue:
        assert frames_of(catalogue) == [(GATE, number, 3 if number < 5 else 2) for number in range(20)]
        assert {len(catalogue.packet(one).chunks) for one in catalogue.entries()} == {2, 3}
        assert search(catalogue, labels().query_of("x", vector(3)))[1] == 20
        named = {row[0] for row in catalogue.rows("select name from edgesem.segments")}
    assert {one.name for one in open_objects(str(place)).list("segments")} == named  # nothing that nobody names


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_what_is_archived_while_the_catalogue_is_away_is_brought_later(tmp_path, monkeypatch, caplog, kills):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    monkeypatch.setattr("runtime.catalogue.uploader._MOST_WAIT_S", 0.5)
    with running_postgres() as server, Database(server.url) as database, Archive(tmp_path / "a") as archive:
        server.kill()  # away from the beginning
        with Uploader(database, str(tmp_path / "objects"), tmp_path / "a", period_s=0.05) as uploader:
            fill(archive, GATE, range(100))
            wait_for(lambda: uploader.trouble)
            with pytest.raises(LinkError, match="does not answer"):
                database.check()
            server.start()
            wait_for(lambda: uploader.uploaded == 100)
            last = 100 + 50 * kills
            for number in range(100, last, 50):  # killed while frames come
                fill(archive, GATE, range(number, number + 25))
                server.kill()
                fill(archive, GATE, range(number + 25, number + 50))
                server.start()
            with ArchiveSpool(tmp_path / "a") as spool:
                wait_for(lambda: not spool.waiting)
            with Catalogue(database) as catalogue:
                assert frames_of(catalogue) == [(GATE, number, 1) for number in range(last)]
                assert search(catalogue, labels().query_of("x", vector(3)))[1] == last
    assert PASSWORD not in caplog.text
    assert "does not answer" in caplog.text


def test_frames_that_were_not_brought_are_brought_by_the_next_start(database, tmp_path):
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(10))
    ArchiveSpool(tmp_path / "a").__exit__(None, None, None)  # noted, and then a kill
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(5, 30))
        assert bring(database, tmp_path / "objects", tmp_path / "a").uploaded == 30


def test_nothing_is_brought_to_where_no_reader_would_look(database, tmp_path):
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(5))
        bring(database, tmp_path / "objects", tmp_path / "a")
        fill(archive, GATE, range(5, 8))
        with Uploader(database, str(tmp_path / "other"), tmp_path / "a", period_s=0.1) as uploader:
            wait_for(lambda: uploader.trouble)
            assert "packets are at" in uploader.trouble
        assert uploader.uploaded == 0
        assert bring(database, tmp_path / "objects", tmp_path / "a").uploaded == 3


def test_packets_are_found_from_another_working_folder(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(1))
        bring(database, "objects", tmp_path / "a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    catalogue = Catalogue(database)
    (entry,) = catalogue.entries()
    assert catalogue.packet(entry).frame == 0


def test_a_catalogue_that_comes_back_empty_or_with_other_numbers_is_filled(database, tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.catalogue.uploader._MOST_WAIT_S", 0.2)
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(3))
        with Uploader(database, str(tmp_path / "objects"), tmp_path / "a", period_s=0.1) as uploader:
            wait_for(lambda: uploader.uploaded == 3)
            with database.connection() as connection:
                connection.execute("drop schema edgesem cascade")
            fill(archive, GATE, range(3, 6))
            wait_for(lambda: uploader.uploaded == 6)
            assert frames_of(Catalogue(database)) == [(GATE, number, 1) for number in range(3, 6)]
            with database.connection() as connection, connection.transaction():
                connection.execute("drop schema edgesem cascade")
                migrate(connection)  # as another receiver does, which takes another stream
                connection.execute("insert into edgesem.about values (%s)", (str(tmp_path / "objects"),))
                connection.execute("insert into edgesem.streams (name) values (%s)", (YARD,))
            fill(archive, GATE, range(6, 9))
            wait_for(lambda: uploader.uploaded == 9)
    assert frames_of(Catalogue(database)) == [(GATE, number, 1) for number in range(6, 9)]


def test_the_place_of_packets_may_be_away_too(database, tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.catalogue.uploader._MOST_WAIT_S", 0.2)
    place = tmp_path / "objects"
    place.write_text("in the way")
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(10))
        with Uploader(database, str(place), tmp_path / "a", period_s=0.1) as uploader:
            wait_for(lambda: uploader.trouble)
            place.unlink()
            wait_for(lambda: uploader.uploaded == 10)


def test_what_is_deleted_or_damaged_is_said(database, tmp_path):
    place = tmp_path / "objects"
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(10))
        bring(database, place, tmp_path / "a")
    with Catalogue(database) as catalogue:
        entries = catalogue.entries()
        path = place / entries[0].segment
        data = path.read_bytes()
        path.write_bytes(data[: entries[5].start + 3] + bytes(len(data)))
        assert catalogue.packet(entries[2]).frame == 2
        with pytest.raises(InputError, match="frame 5 of home/gate/main is damaged"):
            catalogue.packet(entries[5])
    with Catalogue(database) as again:
        path.unlink()
        with pytest.raises(InputError, match="is not there"):
            again.packet(entries[2])
        with database.connection() as connection:
            connection.execute("update edgesem.segments set name = '../../etc/passwd'")
        with pytest.raises(InputError, match="damaged"):
            again.entries()


def test_events_of_all_receivers_are_listed(postgres, database, tmp_path, capsys):
    for number, stream in enumerate((GATE, YARD)):
        with Archive(tmp_path / str(number)) as archive:
            for place in range(5):
                mark = EventMark(1000 + number, place, 500 * place - 1000, kind=1, label="a person at a door")
                side_info = replace(packet().side_info, event=mark)
                one = replace(packet(place, time_ms=place), promised=True, side_info=side_info)
                archive.add(stream, one, 1000.0 + 100 * number + mark.since_ms / 1000)
            fill(archive, stream, range(10, 20))
            bring(database, tmp_path / "objects", tmp_path / str(number))
    with Catalogue(database) as catalogue:
        newest, oldest = catalogue.events()
        assert newest == (YARD, "000003e9", 1100.0, "watch", "a person at a door", 5, 1099.0, 1101.0)
        assert oldest[:3] == (GATE, "000003e8", 1000.0)
        assert catalogue.events(stream=GATE, since_s=900) == [oldest]
        assert catalogue.events(until_s=900) == []
        assert catalogue.events(most=1) == [newest]
    assert main(["catalogue", "events", "--catalogue", postgres.url, "--stream", YARD, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["events"]
    assert (told["stream"], told["event"], told["frames"], told["seconds"]) == (YARD, "000003e9", 5, 2.0)
    tidies = ["catalogue", "tidy", "--catalogue", postgres.url, "--objects", str(tmp_path / "objects")]
    assert main([*tidies, "--max-age", "2d", "--promised-max-age", "1d"]) == 2
    assert main([*tidies, "--max-age", "1d", "--promised-max-age", "2d"]) == 0
    assert "30 frames deleted, and 2 objects" in capsys.readouterr().out
    assert Catalogue(database).events() == []


def test_old_frames_go_and_promised_ones_later(database, tmp_path, monkeypatch):
    place = tmp_path / "objects"
    with Archive(tmp_path / "a") as archive:
        for first in (0, 200, 400):  # each an object of its own, and blocks that go on
            fill(archive, GATE, range(first, first + 150))
            if first == 200:
                archive.add(GATE, replace(packet(350, to_bytes(vector(350)), time_ms=350), promised=True), 1350.0)
            bring(database, place, tmp_path / "a")
    stray = segment_name("killed")
    for name in (stray, segment_name("just-now")):
        open_objects(str(place)).put(name, b"x")
    os.utime(place / stray, (0, 0))
    with Catalogue(database) as catalogue:
        before = len(list(open_objects(str(place)).list("segments")))
        done = tidy(catalogue, before_s=1405.0, promised_before_s=float("-inf"))
        assert done.frames == 150 + 150 + 5
        assert done.objects == 2  # the first, and what nobody names; a promised frame holds the second
        assert len(list(open_objects(str(place)).list("segments"))) == before - 2
        assert [one[1] for one in frames_of(catalogue)] == [350, *range(405, 550)]
        hits, _ = search(catalogue, labels().query_of("x", vector(3)), most=500)
        assert sorted(hit.entry.frame for hit in hits) == [350, *range(405, 550)]
        assert catalogue.packet(catalogue.newest(GATE, 1350.5)).promised
        assert tidy(catalogue, before_s=9e9, promised_before_s=9e9).frames == 146
        assert catalogue.rows("select count(*) from edgesem.blocks")[0][0] == 0
        assert search(catalogue, labels().query_of("x", vector(3))) == ([], 0)


def test_an_object_that_nobody_names_goes_also_where_nothing_came_after_it(database, tmp_path):
    place, stray = tmp_path / "objects", segment_name("killed")
    database.prepare()
    open_objects(str(place)).put(stray, b"x")
    os.utime(place / stray, (0, 0))
    with Catalogue(database, str(place)) as catalogue:
        done = tidy(catalogue, before_s=0.0, promised_before_s=0.0)
        assert (done.objects, done.object_bytes) == (1, 1)
        assert list(catalogue.objects.list("segments")) == []


def test_a_clock_that_is_ahead_deletes_nothing(postgres, database, tmp_path, monkeypatch, capsys):
    place, now_s = tmp_path / "objects", time.time()
    with Archive(tmp_path / "a") as archive:
        archive.add(GATE, packet(1, to_bytes(vector(1)), time_ms=1), now_s - 100)
        archive.add(GATE, packet(2, to_bytes(vector(2)), time_ms=2), now_s - 20 * 86400)
        bring(database, place, tmp_path / "a")
    under_way = segment_name("other")  # written, and its receiver will name it in a moment
    open_objects(str(place)).put(under_way, b"x")
    monkeypatch.setattr("time.time", lambda: now_s + 30 * 86400)
    tidies = ["catalogue", "tidy", "--catalogue", postgres.url, "--objects", str(place)]
    assert main([*tidies, "--max-age", "10d"]) == 0
    assert "1 frames deleted, and 0 objects" in capsys.readouterr().out
    assert [one.frame for one in Catalogue(database).entries()] == [1]
    assert (place / under_way).exists()


def test_a_backup_can_be_restored(postgres, database, tmp_path):
    place, copy, dump = tmp_path / "objects", tmp_path / "copy", tmp_path / "catalogue.dump"
    with Archive(tmp_path / "a") as archive:
        fill(archive, GATE, range(150))
        bring(database, place, tmp_path / "a")
        postgres.run("pg_dump", "-Fc", "-f", dump, "-d", postgres.url)  # first: what it names is in the copy then
        fill(archive, GATE, range(150, 160))
        bring(database, place, tmp_path / "a")
        shutil.copytree(place, copy)
        with database.connection() as connection:
            connection.execute("drop schema edgesem cascade")
        shutil.rmtree(place)
        postgres.run("pg_restore", "-d", postgres.url, dump)
        with Catalogue(database, str(copy)) as catalogue:
            entries = catalogue.entries()
            assert [one.frame for one in entries] == [*range(150)]
            assert [catalogue.packet(one).frame for one in entries] == [*range(150)]
            assert search(catalogue, labels().query_of("x", vector(77)))[0][0].entry.frame == 77
        fill(archive, GATE, range(160, 170))  # receivers go on
        bring(database, place, tmp_path / "a")
        assert len(Catalogue(database).entries()) == 160
        with contextlib.closing(sqlite3.connect(tmp_path / "a" / FILE)) as base, base:  # as the guide has it
            base.execute("insert or ignore into uncatalogued select id from frames")
        bring(database, place, tmp_path / "a")
        assert [one.frame for one in Catalogue(database).entries()] == [*range(170)]


@needs_swift
@pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed")
def test_a_backup_of_an_object_store_can_be_restored(postgres, database, tmp_path, monkeypatch):
    """As the guide has it, with rclone."""
    copy, dump = tmp_path / "copy", tmp_path / "catalogue.dump"
    with running_swift() as store:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # rclone 1.60 ends where that is set
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        how = ("--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", store.env["AWS_ENDPOINT_URL"])

        def rclone(*words):
            subprocess.run(["rclone", *words, *how], check=True, timeout=60)

        with Archive(tmp_path / "a") as archive:
            fill(archive, GATE, range(150))
            bring(database, "s3://pictures/fleet", tmp_path / "a")
        postgres.run("pg_dump", "-Fc", "-f", dump, "-d", postgres.url)
        rclone("copy", ":s3:pictures/fleet", copy)
        with database.connection() as connection:
            connection.execute("drop schema edgesem cascade")
        rclone("purge", ":s3:pictures/fleet")
        postgres.run("pg_restore", "-d", postgres.url, dump)
        with Catalogue(database) as catalogue, pytest.raises(InputError, match="is not there"):
            catalogue.packet(catalogue.entries()[0])
        rclone("copy", copy, ":s3:pictures/fleet")
        for place in ("", str(copy)):  # the copy can be read where it is, too
            with Catalogue(database, place) as catalogue:
                assert [catalogue.packet(one).frame for one in catalogue.entries()] == [*range(150)]


def test_tables_of_a_later_form_are_left_alone(database, tmp_path):
    with pytest.raises(InputError, match="holds no catalogue"):
        database.check()
    database.prepare()
    database.prepare()
    database.check()
    with database.connection() as connection:
        connection.execute("update edgesem.version set steps = 99")
    for use in (database.check, database.prepare):
        with pytest.raises(InputError, match="update edgesem"):
            use()


@pytest.mark.parametrize("url", ["", "mysql://a/b", "postgresql://a:[", "x" * 2000, "postgresql://h/d\n"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="catalogue"):
        Database(url)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h/d", "postgresql://u@h/d?password=secret"])
def test_a_password_in_the_url_is_refused_and_not_said(url):
    with pytest.raises(UsageError, match="leave the password out") as refused:
        Database(url)
    assert "secret" not in str(refused.value)


def test_a_wrong_password_is_one_error(postgres, monkeypatch):
    monkeypatch.setenv(PASSWORD_VARIABLE, "another one")
    with Database(postgres.url) as database, pytest.raises(LinkError, match="password") as refused:
        database.check()
    assert "another one" not in str(refused.value)


@needs_swift
def test_packets_in_an_object_store_are_read_by_range(database, tmp_path, monkeypatch):
    monkeypatch.setattr("runtime.catalogue.uploader._MOST_WAIT_S", 0.5)
    with running_swift() as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        place = "s3://pictures/fleet-1"
        with Archive(tmp_path / "a") as archive:
            fill(archive, GATE, range(300))
            bring(database, place, tmp_path / "a")
            with Catalogue(database) as catalogue:  # which says where they are
                for entry in catalogue.entries()[::37]:
                    assert catalogue.packet(entry).frame == entry.frame
            store.kill("proxy")
            with Uploader(database, place, tmp_path / "a", period_s=0.1) as uploader:
                fill(archive, YARD, range(20))
                wait_for(lambda: "pictures" in uploader.trouble)
                store.start("proxy")
                wait_for(lambda: uploader.uploaded == 20)
        objects = open_objects(place)
        names = [one.name for one in objects.list("segments")]
        assert len(names) >= 2
        for name in (names[0], names[0]):
            objects.delete(name)
        with pytest.raises(InputError, match="is not there"):
            objects.read(names[0], 0, 10)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(LinkError, match="does not take or give") as refused:
            open_objects(place).put("segments/x", b"1")
        assert "wrong" not in str(refused.value)
