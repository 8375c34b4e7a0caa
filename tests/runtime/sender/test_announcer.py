"""Births of a running sender at a real broker: said again, ordered by a counter, and sealed by the stream's key."""

import contextlib
import queue
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edgesem.errors import LinkError
from edgesem.packet.keys import Identity
from runtime import SenderOptions, StreamSender
from runtime.mqtt.connection import Connection
from runtime.protocol.birth import Birth
from runtime.protocol.topics import Topics
from runtime.sender import announcer
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec

TOPICS = Topics("home", "gate", "main")
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def watchful(monkeypatch):
    """Senders look after their birth often."""
    monkeypatch.setattr(announcer, "_LOOK_S", 0.05)
    monkeypatch.setattr(announcer, "_AFTER_OTHERS_S", 0.1)


@pytest.fixture
def births(address):
    """The births that come to a receiver, and its connection."""
    heard = queue.Queue()

    def take(topic, payload):
        heard.put(payload)

    with Connection(address, name="r", subscribe=TOPICS.birth, on_message=take) as connection:
        yield heard, connection


def next_birth(heard, condition=lambda birth: True):
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        payload = heard.get(timeout=WAIT_S)
        if payload and condition(birth := Birth.from_bytes(payload, base=TOPICS.base)):
            return Birth.from_bytes(payload, base=TOPICS.base, key=KEY) if birth.sealed else birth
    pytest.fail("no such birth")


def sender(address, folder, **more):
    return StreamSender(address, TOPICS, SenderOptions(fps=1), codec=codec(), folder=folder, **more)


def test_starts_are_ordered_by_a_counter_and_not_by_the_clock(tmp_path, address, births, monkeypatch):
    heard, _ = births
    with sender(address, tmp_path / "s", key=KEY):
        first = next_birth(heard)
    monkeypatch.setattr("runtime.sender.spool.time.time", lambda: 5.0)  # a board without a clock of its own
    with sender(address, tmp_path / "s", key=KEY):
        second = next_birth(heard, lambda birth: birth.salt != first.salt)
    assert second.start == first.start + 1
    assert second.public_key == first.public_key


def test_a_stranger_cannot_keep_the_birth_away(tmp_path, address, births, caplog):
    heard, connection = births
    with sender(address, tmp_path / "s", key=KEY):
        mine = next_birth(heard)
        stranger = Identity(b"x" * 32)
        forged = Birth(1, "d", 0, 0, 1.0, 3, b"x" * 16, 0, True, "stranger", start=2**50)
        for payload in (b"", forged.to_bytes(stranger, base=TOPICS.base)):
            connection.publish(TOPICS.birth, payload, retain=True)
            again = next_birth(heard, lambda birth: birth.public_key == mine.public_key)
            assert (again.salt, again.start) == (mine.salt, mine.start)
    assert "another sender uses the name home/gate/main too" in caplog.text


def test_foreign_births_without_end_are_answered_once_in_a_while(tmp_path, address, births, monkeypatch):
    monkeypatch.setattr(announcer, "_AFTER_OTHERS_S", 0.5)
    heard, connection = births
    stranger, made_ms = Identity(b"x" * 32), []
    with sender(address, tmp_path / "s"):
        mine = next_birth(heard)
        while len(made_ms) < 4:
            forged = Birth(1, "d", 0, 0, 1.0, 3, b"x" * 16, len(made_ms), False, "stranger", start=2**50)
            connection.publish(TOPICS.birth, forged.to_bytes(stranger, base=TOPICS.base), retain=True)
            with contextlib.suppress(queue.Empty):
                again = Birth.from_bytes(heard.get(timeout=0.05), base=TOPICS.base)
                made_ms += [again.time_ms] if again.public_key == mine.public_key else []
    assert np.diff(made_ms).min() >= 495


def test_a_receiver_without_the_birth_asks_for_it(tmp_path, address, births):
    heard, connection = births
    with sender(address, tmp_path / "s", key=KEY) as running:
        mine = next_birth(heard)
        connection.publish(TOPICS.cmd, b"")
        assert next_birth(heard).salt == mine.salt
        assert running.alive


def test_where_the_broker_retains_nothing_it_is_said_each_minute(tmp_path, address, births, monkeypatch):
    heard, _ = births
    with sender(address, tmp_path / "s") as running:
        next_birth(heard)
        running._announcer._unretained_s = 0.2
        monkeypatch.setattr(Connection, "retains", property(lambda _: False))
        for _ in range(2):
            next_birth(heard)


def test_it_is_said_again_when_the_clock_is_set_and_now_and_then(tmp_path, address, births, monkeypatch):
    heard, _ = births
    monkeypatch.setattr(announcer, "EVERY_S", 1000.0)
    with sender(address, tmp_path / "s"):
        next_birth(heard)
        now = time.time
        monkeypatch.setattr("runtime.sender.announcer.time.time", lambda: now() + 600)
        next_birth(heard)
    monkeypatch.setattr(announcer, "_CLOCK_JUMP_S", 1e9)
    with sender(address, tmp_path / "s") as running:
        next_birth(heard)
        running._announcer._every_s = 0.2
        for _ in range(2):
            next_birth(heard)
        assert running.alive


def test_a_birth_that_the_link_does_not_take_is_said_again_soon(tmp_path):
    said, refuses = queue.Queue(), [LinkError("it takes 100 messages at a time")]

    def publish(topic, payload, **_):
        if refuses:
            raise refuses.pop()
        said.put(payload)

    connection = SimpleNamespace(connected=True, retains=True, publish=publish)
    about = Birth(1, "d", 0, 0, 1.0, 3, b"x" * 16, 0, False, "gate", start=1)
    identity = Identity.open(tmp_path / "identity")
    with announcer.Announcer(
        topics=TOPICS, make=lambda: about, identity=identity, key=None, connection=lambda: connection
    ):
        assert said.get(timeout=WAIT_S)
