"""Promised frames on disk."""

import contextlib
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.files import read_packet
from runtime.protocol.topics import Topics, from_file_name, to_file_name
from runtime.receiver import promised_store, undrawn
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.undrawn import UndrawnIndex
from tests.support.publishing import plain, wait_for

TOPICS = Topics("home", "cam", "main")


def put(promised_store, packet, topics=TOPICS):
    """What became of it: safe, new."""
    answers, answered = [], threading.Event()
    promised_store.put(topics, packet, lambda *answer: (answers.append(answer), answered.set()))
    assert answered.wait(20)
    return answers[0]


def test_a_frame_is_kept_once_also_after_a_restart(tmp_path):
    packet = plain(5, promised=True)
    with PromisedStore(tmp_path) as promised_store:
        assert put(promised_store, packet) == (True, True)
        assert put(promised_store, packet) == (True, False)
    with PromisedStore(tmp_path) as promised_store:
        assert put(promised_store, packet) == (True, False)
        path = promised_store.path_of(TOPICS, packet)
    assert read_packet(path) == packet


def test_frames_of_two_starts_with_one_epoch_are_both_kept(tmp_path):
    with PromisedStore(tmp_path) as promised_store:
        assert put(promised_store, plain(5, promised=True, time_ms=1)) == (True, True)
        assert put(promised_store, plain(5, promised=True, time_ms=2)) == (True, True)


def test_a_disk_that_is_nearly_full_refuses(tmp_path):
    with PromisedStore(tmp_path, free_bytes=2**62) as promised_store:
        assert put(promised_store, plain(promised=True)) == (False, False)
    assert list(tmp_path.rglob("*.es")) == []


def test_a_folder_that_cannot_be_written_refuses(tmp_path):
    (tmp_path / "home").write_text("in the way")
    with PromisedStore(tmp_path) as promised_store:
        assert put(promised_store, plain(promised=True)) == (False, False)
        assert put(promised_store, plain(promised=True), Topics("office", "cam", "main")) == (True, True)


def test_what_has_a_picture_is_not_drawn_again(tmp_path):
    with PromisedStore(tmp_path) as promised_store:
        for number in (1, 2):
            put(promised_store, plain(number, promised=True))
        first = sorted(tmp_path.rglob("*.es"))[0]
        first.with_suffix(".png").write_bytes(b"")
        (first.parent / "stray.es").write_bytes(b"")
    index = UndrawnIndex(tmp_path, "promised")
    index.scan()
    assert index.streams() == [TOPICS]
    assert [packet.frame for packet in index.take(TOPICS, 9)] == [2]
    assert index.streams() == []


def test_another_picture_under_a_name_and_an_empty_file_do_not_count_as_kept(tmp_path):
    packet = plain(5, promised=True)
    other = replace(packet, chunks=(b"another picture", *packet.chunks[1:]))
    with PromisedStore(tmp_path) as promised_store:
        path = promised_store.path_of(TOPICS, packet)
        path.parent.mkdir(parents=True)
        path.touch()  # what a power cut leaves
        assert put(promised_store, packet) == (True, True)
        assert read_packet(path) == packet
        assert put(promised_store, other) == (True, True)
        assert put(promised_store, other) == (True, False)
        assert put(promised_store, packet) == (True, False)
        assert promised_store.path_of(TOPICS, other) != path
        assert read_packet(promised_store.path_of(TOPICS, other)) == other
    index = UndrawnIndex(tmp_path, "promised")
    index.scan()
    assert len(index.take(TOPICS, 9)) == 2


def test_kept_frames_are_not_for_all_users_of_the_machine(tmp_path):
    with PromisedStore(tmp_path) as promised_store:
        put(promised_store, plain(promised=True))
        assert promised_store.path_of(TOPICS, plain(promised=True)) is not None
    (path,) = tmp_path.rglob("*.es")
    assert path.stat().st_mode & 0o007 == 0


def test_a_stranger_gets_a_share_of_the_disk_and_the_others_are_still_kept(tmp_path, monkeypatch):
    def small_disk(folder):  # that nobody else fills meanwhile
        used = sum(path.stat().st_size for path in tmp_path.rglob("*.es"))
        return SimpleNamespace(f_bavail=100_000 - used, f_frsize=1, f_files=0, f_favail=0)

    monkeypatch.setattr(promised_store.os, "statvfs", small_disk)
    named = Topics("home", "named", "main")
    big = (bytes(10_000),) * 4
    with PromisedStore(tmp_path, free_bytes=0, is_reserved=lambda topics: topics == named) as store:
        strangers = [put(store, plain(n, promised=True, chunks=big[:1], total_layers=1))[0] for n in range(9)]
        assert strangers[0]
        assert not all(strangers)
        assert put(store, plain(1, promised=True, chunks=big[:1], total_layers=1), named) == (True, True)


def test_a_callback_that_raises_does_not_end_the_store(tmp_path):
    def fail(*_):
        raise RuntimeError("a defect")

    with PromisedStore(tmp_path) as promised_store:
        promised_store.put(TOPICS, plain(1, promised=True), fail)
        assert put(promised_store, plain(2, promised=True)) == (True, True)
        assert promised_store.alive


def test_a_disk_that_hangs_holds_a_bounded_number_of_frames_in_memory(tmp_path, monkeypatch):
    written, hangs, goes_on = promised_store.write_whole, threading.Event(), threading.Event()

    def slow(*args, **options):
        hangs.set()
        assert goes_on.wait(60)
        written(*args, **options)

    monkeypatch.setattr(promised_store, "write_whole", slow)
    answers = []
    with PromisedStore(tmp_path) as store:
        store.put(TOPICS, plain(0, promised=True), lambda *answer: answers.append(answer))
        assert hangs.wait(60)
        for number in range(1, 400):  # the network thread waits for none of them
            store.put(TOPICS, plain(number, promised=True), lambda *answer: answers.append(answer))
        assert answers == []
        goes_on.set()
        wait_for(lambda: len(answers) == 1 + 256)
        assert put(store, plain(399, promised=True)) == (True, True)  # its sender sends it again
    assert answers == [(True, True)] * 257


@pytest.mark.parametrize("part", ["..", ".", "cam 1", "küche", "a\\b", "~", "con"])
def test_names_stay_inside_the_folder(part):
    name = to_file_name(part)
    assert not set(name) & set("/\\. ")
    assert from_file_name(name) == part


@given(
    st.text(min_size=1, max_size=64).filter(str.isprintable), st.text(min_size=1, max_size=64).filter(str.isprintable)
)
def test_different_streams_have_different_names_of_bearable_length(one, other):
    assert (to_file_name(one) == to_file_name(other)) == (one == other)
    assert len(to_file_name(one)) <= 200
    assert from_file_name(to_file_name(one)) in (one, None)


def test_a_file_that_goes_while_the_folder_is_looked_through_costs_no_other(tmp_path, monkeypatch):
    with PromisedStore(tmp_path) as promised_store:
        put(promised_store, plain(5, promised=True))
    part = promised_store.path_of(TOPICS, plain(5, promised=True)).with_name(".edgesem-0.part")
    part.touch()
    names = os.scandir

    @contextlib.contextmanager
    def renamed_meanwhile(folder):
        with names(folder) as files:
            found = list(files)
        if part.name in {file.name for file in found}:
            part.unlink()
        yield found

    monkeypatch.setattr(undrawn.os, "scandir", renamed_meanwhile)
    index = UndrawnIndex(tmp_path, "promised")
    index.scan()
    assert index.streams() == [TOPICS]


def test_two_threads_do_not_read_more_kept_frames_than_there_is_room_for(tmp_path):
    with PromisedStore(tmp_path) as promised_store:
        for number in range(4):
            put(promised_store, plain(number, promised=True))
    index = UndrawnIndex(tmp_path, "promised")
    index.scan()
    asked, go_on, queued = threading.Event(), threading.Event(), []

    def room_for(_):
        asked.set()
        go_on.wait()
        return 2

    first = threading.Thread(target=index.refill, args=(room_for, lambda _, packets: queued.extend(packets)))
    first.start()
    asked.wait()
    index.refill(lambda _: 2, lambda _, packets: queued.extend(packets))  # meanwhile, it returns at once
    go_on.set()
    first.join()
    assert len(queued) == 2
