"""Recordings: what a receiver that starts anew makes of old births and old sealed packets."""

import sqlite3
import time

import pytest

from edgesem.errors import InputError
from edgesem.packet.seal import Seal
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver import freshness_store
from runtime.receiver.freshness_store import FILE, FreshnessStore, FreshStart
from runtime.receiver.streams import Streams
from tests.support.publishing import birth, identity, plain

KEY = bytes(range(32))
TOPICS = Topics("home", "cam", "main")
BASE = TOPICS.base
WHO = identity()


class Receiver:
    """One run of a receiver: its streams, and what it writes to disk once a second."""

    def __init__(self, folder):
        self.store = FreshnessStore(folder)
        self.streams = Streams(
            bundle_ids=[7], publish=lambda *_: None, key=KEY, remembered=self.store.load(), patience_s=0.0
        )

    def hears_birth(self, born, who=WHO, key=KEY):
        self.streams.on_message(TOPICS.birth, b"" if born is None else born.to_bytes(who, base=BASE, key=key))

    def hears(self, born, *numbers, epoch=1):
        """Sealed frames of a start; returns which of them are decoded."""
        seal, decoded = Seal(KEY, stream=BASE, salt=born.salt), []
        for number in numbers:
            for part in plain(number, epoch=epoch).split():
                self.streams.on_message(TOPICS.layer(part.first_layer), seal.seal(part.to_bytes()))
            job = self.streams.next_frame(0)
            if job is not None:
                decoded.append(job[1].frame)
                self.streams.done(job[0], decode_s=0.0, good=True)
        return decoded

    def remember(self):
        self.store.save(self.streams.fresh_starts())

    def end(self):
        self.remember()
        self.store.__exit__()


def test_the_recording_of_an_earlier_start_is_refused_by_a_receiver_that_starts_afresh(tmp_path):
    old, new = birth(sealed=True, start=1), birth(sealed=True, start=2)
    first = Receiver(tmp_path)
    first.hears_birth(old)
    assert first.hears(old, 1, 2) == [1, 2]
    first.hears_birth(new)
    assert first.hears(new, 0, epoch=2) == [0]
    first.end()
    second = Receiver(tmp_path)
    second.hears_birth(old)  # somebody has put the old one back, retained
    assert second.hears(old, 1, 2, 3) == []
    assert second.hears(new, 1, epoch=2) == [1]  # the birth of the new start is not even needed
    second.end()


def test_sealed_frames_of_the_same_start_are_not_shown_again_after_a_restart(tmp_path):
    born, first = birth(sealed=True), Receiver(tmp_path)
    first.hears_birth(born)
    assert first.hears(born, *range(5)) == list(range(5))
    first.end()
    for _ in range(2):
        again = Receiver(tmp_path)
        again.hears_birth(born)
        assert again.hears(born, *range(5)) == []
        again.end()
    again = Receiver(tmp_path)
    assert again.hears(born, 5, 6) == [5, 6]
    (stream,) = again.streams.all()
    assert stream.inbox.counters.repeated == 0


def test_a_start_with_an_earlier_clock_is_taken_and_its_birth_may_be_said_again(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.hears_birth(birth(sealed=True, start=1, time_ms=2_000_000))
    born = birth(sealed=True, start=2, time_ms=1_000_000)
    for _ in range(3):
        receiver.hears_birth(born)
    assert receiver.hears(born, 1) == [1]
    (stream,) = receiver.streams.all()
    assert stream.inbox.counters.malformed == 0


@pytest.mark.parametrize("how", ["untagged", "another key", "emptied"])
def test_a_strangers_birth_neither_opens_nor_blinds_a_sealed_stream(tmp_path, how):
    born, receiver = birth(sealed=True, start=1), Receiver(tmp_path)
    strangers = birth(sealed=True, start=2**40)

    def interfere(to):
        if how == "untagged":
            to.hears_birth(strangers, identity(), key=None)
        elif how == "another key":
            to.hears_birth(strangers, identity(), key=bytes(32))
        else:
            to.hears_birth(None)

    interfere(receiver)
    assert receiver.streams.all() == []  # nor does it make a stream
    receiver.hears_birth(born)
    interfere(receiver)
    assert receiver.hears(born, 1) == [1]
    interfere(receiver)
    receiver.hears_birth(born)  # said again
    assert receiver.hears(born, 2) == [2]
    (stream,) = receiver.streams.all()
    assert stream.inbox.counters.malformed == (0 if how == "emptied" else 2)  # to delete what is retained is no fault
    receiver.end()
    late = Receiver(tmp_path)
    interfere(late)
    assert late.hears(born, 3) == [3]
    late.end()


def test_a_board_that_was_set_up_anew_is_taken_and_its_old_births_open_nothing_that_was_shown(tmp_path):
    before, after, first = birth(sealed=True, start=900), birth(sealed=True, start=1), Receiver(tmp_path)
    first.hears_birth(before)
    assert first.hears(before, 1) == [1]
    first.hears_birth(after, who=identity())
    assert first.hears(after, 0) == [0]
    first.end()
    second = Receiver(tmp_path)
    second.hears_birth(before)
    assert second.hears(before, 0, 1) == []
    assert second.hears(after, 1) == [1]


def test_a_state_alone_makes_no_stream_where_there_is_a_key(tmp_path):
    receiver = Receiver(tmp_path)
    receiver.streams.on_message(TOPICS.state, State(True, 1, 5).to_bytes())
    assert receiver.streams.all() == []
    assert receiver.streams.strays == 1


def test_the_memory_is_only_for_its_owner_and_survives_a_damaged_file(tmp_path):
    with FreshnessStore(tmp_path) as store:
        assert store.path.stat().st_mode & 0o077 == 0
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    for suffix in ("-wal", "-shm"):
        (tmp_path / (FILE + suffix)).unlink(missing_ok=True)
    with FreshnessStore(tmp_path) as store:
        assert store.load() == []


def test_a_memory_of_a_later_version_is_an_error_that_says_so(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as base:
        base.execute("pragma user_version=99")
    base.close()
    with pytest.raises(InputError, match="update edgesem"):
        FreshnessStore(tmp_path)


def test_what_a_full_disk_did_not_take_is_remembered_once_it_does(tmp_path):
    born = birth(sealed=True, start=1)
    run = Receiver(tmp_path)
    run.hears_birth(born)
    assert run.hears(born, 1) == [1]
    with FreshnessStore(tmp_path / "state") as store:
        store._base.execute("create trigger full before insert on starts begin select raise(abort, 'full'); end")
        store._write(run.streams.fresh_starts)
        assert store.load() == []
        store._base.execute("drop trigger full")
        store._write(run.streams.fresh_starts)
        assert [one.newest for one in store.load()] == [(1, 1)]


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(freshness_store, "_LAST_S", 0.05)
    store = FreshnessStore(tmp_path)
    began_s = time.monotonic()
    with store._lock:  # as a thread that saves
        store.__exit__()
    assert time.monotonic() - began_s < 5
    assert store.load() == []
    store.__exit__()


def test_no_more_than_ten_thousand_starts_are_remembered_and_the_newest_are(tmp_path):
    old = [FreshStart(f"edgesem/v1/home/{n}/main", bytes(32), b"birth", (1, n)) for n in range(10_050)]
    new = [FreshStart(f"edgesem/v1/home/new-{n}/main", bytes(32), b"birth", (1, n)) for n in range(50)]
    with FreshnessStore(tmp_path) as store:
        store.save(old)
        store.save(new)
        known = store.load()
    assert len(known) == 10_000
    assert known[-50:] == new
