"""A sender that attends: what is new goes, what is known stays, what is looked for is promised; asked over `cmd`."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, to_bytes
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.protocol.ack import Ack
from runtime.protocol.command import MAX_COMMAND_BYTES, Command
from runtime.protocol.topics import Topics
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.semantic_trigger import SemanticTrigger, TriggerDecision
from runtime.sender.spool import Spool

TOPICS = Topics("home", "gate", "main")


@dataclass
class Latent:
    level: int
    width: int = 64
    height: int = 64


class Codec:
    """Packs anything."""

    def analyze(self, image):
        return Latent(int(image[0, 0, 0]))

    def pack(self, latent, *, budget_bytes, options):
        return Packet(
            bundle_id=1, epoch=options.epoch, frame=options.frame, time_ms=options.time_ms, width=64, height=64, q=100,
            total_layers=1, first_layer=0, chunks=(bytes([latent.level]),), side_info=options.side_info,
        )  # fmt: skip


@dataclass
class Eyes:
    """A semantic trigger by the brightness of a frame: 200 and more is looked for, the same as before is known."""

    asked: list = field(default_factory=list)
    known: int = -1

    def look(self, latent, now_s, *, connected=True):
        new, looked_for = latent.level != self.known, latent.level >= 200
        meaning = np.eye(1, DIMENSIONS, dtype=np.float32)[0]
        return TriggerDecision(new, looked_for and new, 0.5, float(new), "a light", 0.5, meaning, to_bytes(meaning))

    def sent(self, frame, decision, now_s):
        self.in_flight = frame

    def delivered(self, frame):
        self.asked.append(("delivered", frame))

    def look_for(self, queries, vectors=()):
        self.asked.append((queries, vectors))


class Stand:
    def __init__(self, tmp_path, trigger):
        self.events, self.come = [], threading.Condition()
        self.codec, self.sent, self.trigger = Codec(), [], trigger
        self.spool = Spool(tmp_path / "s.sqlite", max_bytes=1 << 20)
        self.sender = SenderPipeline(
            codec=self.codec, topics=TOPICS, control=Control(interval_s=0.001), publish=self.publish,
            on_event=self.take,
            spool=self.spool, trigger=trigger,
        )  # fmt: skip

    def publish(self, topic, payload, confirm):
        self.sent.append(Packet.from_bytes(payload))
        confirm()

    def take(self, event):
        with self.come:
            self.events.append(event.as_dict())
            self.come.notify_all()

    def show(self, level):
        """Offer a frame and wait for what becomes of it."""
        before = len(self.events)
        self.sender.offer(Frame(np.full((64, 64, 3), level, np.uint8), "f", 1))
        ends = ("unchanged", "news", "skipped")
        with self.come:
            assert self.come.wait_for(lambda: any(one["event"] in ends for one in self.events[before:]), 10)
        return [one["event"] for one in self.events[before:]]


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path, Eyes())
    with made.sender:
        made.sender.connected(0.01)
        yield made
    made.spool.close()


def test_what_is_known_is_not_sent_and_what_is_new_says_what_it_means(stand):
    assert "news" in stand.show(10)
    stand.trigger.known = 10
    assert "unchanged" in stand.show(10)
    assert stand.sender.counters.unchanged == 1
    assert "news" in stand.show(20)
    assert len(stand.sent) == 2
    assert all(len(packet.side_info.embedding) == EMBEDDING_BYTES for packet in stand.sent)


def test_what_is_looked_for_is_promised(stand):
    assert "news" in stand.show(220)
    assert stand.spool.waiting == 1


def test_an_acknowledgement_tells_what_was_delivered(stand):
    stand.show(10)
    stand.sender.on_message(TOPICS.ack, Ack(stand.sender.epoch, 0, 0, 1, 1).to_bytes())
    stand.sender.on_message(TOPICS.ack, Ack(stand.sender.epoch ^ 1, 5, 0, 1, 1).to_bytes())
    assert stand.trigger.asked == [("delivered", 0)]


def test_what_a_receiver_holds_counts_once_however_often_it_says_so(stand):
    stand.show(10)
    epoch = stand.sender.epoch
    stand.sender.on_message(TOPICS.ack, Ack(epoch, 0, 0, 1, 1, receiver=5).to_bytes())
    for _ in range(2):
        stand.sender.on_message(TOPICS.ack, Ack(epoch, 0, 0, 1, 1, receiver=5, held=1).to_bytes())
    assert stand.sender.counters.acknowledged == 1
    assert [one["event"] for one in stand.events].count("acked") == 1


def test_that_a_frame_is_held_tells_of_its_base_layer_whose_own_word_was_lost(stand):
    stand.show(10)
    stand.sender.on_message(TOPICS.ack, Ack(stand.sender.epoch, 0, 3, 1, 1, receiver=5, held=4).to_bytes())
    assert stand.trigger.asked == [("delivered", 0)]


class Head:
    """Takes a latent for its own embedding."""

    def embed(self, latent):
        return latent


def test_what_was_looked_for_is_owed_until_a_frame_of_it_has_gone():
    there = np.zeros(DIMENSIONS, np.float32)
    there[7] = 1
    trigger = SemanticTrigger(Bundle.open(DEFAULT), send_on="change", queries=["dog"], vectors=[to_bytes(there)])
    trigger._head = Head()
    away = trigger.look(-there, 0.0)
    trigger.sent(0, away, 0.0)
    trigger.delivered(0)
    assert not away.promise
    lost = trigger.look(there, 0.1)  # it appears, and then the link has no room: `sent` is never called
    assert (lost.promise, lost.query) == (True, "dog")
    again = trigger.look(there, 0.2)
    assert (again.promise, again.send) == (True, True)
    trigger.sent(1, again, 0.2)
    trigger.delivered(1)
    after = trigger.look(there, 0.3)
    assert (after.promise, after.send) == (False, False)


def test_a_change_without_a_connection_is_promised_at_most_each_ten_seconds():
    trigger = SemanticTrigger(Bundle.open(DEFAULT), send_on="change")
    trigger._head = Head()
    views = np.eye(40, DIMENSIONS, dtype=np.float32)

    def show(view, now_s, connected=False):
        decision = trigger.look(views[view], now_s, connected=connected)
        if decision.send:
            trigger.sent(round(now_s), decision, now_s)
            if decision.promise:
                trigger.delivered(round(now_s))
        return decision.promise

    assert not show(0, 0.0, connected=True)
    trigger.delivered(0)
    assert [second for second in range(1, 100) if show(1 if second < 50 else 2, second)] == [1, 50]


def test_queries_and_a_region_are_asked_for(stand):
    command = Command("watch", queries=("a truck", "red car"), vectors=(b"", b"v" * 64))
    stand.sender.on_message(TOPICS.cmd, command.to_bytes())
    assert stand.trigger.asked == [(("a truck", "red car"), (b"", b"v" * 64))]
    stand.sender.on_message(TOPICS.cmd, Command("region", roi=(0.5, 0.5, 0.5, 0.5), drop=40).to_bytes())
    stand.show(10)
    region = stand.sent[-1].side_info.region
    assert (region.left, region.top, region.right, region.bottom, region.drop) == (2, 2, 3, 3, 40)


def test_a_sender_without_a_head_says_so_and_goes_on(tmp_path, caplog):
    made = Stand(tmp_path, None)
    made.sender.on_message(TOPICS.cmd, Command("watch", queries=("a truck",)).to_bytes())
    assert "--watch" in caplog.text
    made.spool.close()


@given(st.lists(st.text("abc xyz", min_size=1, max_size=20), max_size=8), st.integers(0, 255))
def test_a_command_says_what_it_said(queries, drop):
    vectors = tuple(bytes([drop or 1]) * 64 if i % 2 else b"" for i in range(len(queries)))
    for command in (
        Command("watch", queries=tuple(queries), vectors=vectors),
        Command("region", roi=(0.1, 0.2, 0.3, 0.4), drop=drop),
    ):
        data = command.to_bytes()
        assert len(data) <= MAX_COMMAND_BYTES
        assert Command.from_bytes(data) == command


@pytest.mark.parametrize(
    "fields", [{"queries": ("a",) * 9}, {"queries": ("a;b",)}, {"queries": ("a",), "vectors": (b"x",)}, {"drop": 256}]
)
def test_what_cannot_be_asked_is_refused(fields):
    with pytest.raises(PacketError, match="command"):
        Command("watch", **fields)
