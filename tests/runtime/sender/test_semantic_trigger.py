"""A sender that attends: what is new goes, what is known stays, what is looked for is promised; asked over `cmd`."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgesem.bundle.bundle import DEFAULT, Bundle
from edgesem.codec.codec import load
from edgesem.files import read_picture
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, to_bytes
from runtime.capture.frame import PHOTOS, Frame
from runtime.protocol.ack import Ack
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.semantic_trigger import SemanticTrigger, TriggerDecision
from runtime.sender.spool import Spool
from tests.support.sender_bench import TOPICS, Codec, Control, SimulatedSender


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


class Stand(SimulatedSender):
    def __init__(self, folder, trigger):
        self.trigger, spool = trigger, Spool(folder / "s.sqlite", max_bytes=1 << 20)
        super().__init__(codec=Codec(layers=1), trigger=trigger, spool=spool)

    def given(self, level):
        """What became of a frame, by the names of events."""
        return [event["event"] for event in self.show(level=level)]

    def acknowledge(self, frame, layer=0, epoch=None, **more):
        ack = Ack(self.pipeline.epoch if epoch is None else epoch, frame, layer, 1, 1, **more)
        self.pipeline.on_message(TOPICS.ack, ack.to_bytes())


@pytest.fixture
def stand(tmp_path):
    made = Stand(tmp_path, Eyes())
    yield made
    made.spool.close()


def test_what_is_known_is_not_sent_and_what_is_new_says_what_it_means(stand):
    assert "news" in stand.given(10)
    stand.trigger.known = 10
    assert "unchanged" in stand.given(10)
    assert stand.pipeline.counters.unchanged == 1
    assert "news" in stand.given(20)
    assert len(stand.published) == 2
    assert all(len(packet.side_info.embedding) == EMBEDDING_BYTES for packet in stand.published)


def test_what_is_looked_for_is_promised(stand):
    assert "news" in stand.given(220)
    assert stand.spool.waiting == 1


def test_an_acknowledgement_tells_what_was_delivered(stand):
    stand.given(10)
    stand.acknowledge(0)
    stand.acknowledge(5, epoch=stand.pipeline.epoch ^ 1)
    assert stand.trigger.asked == [("delivered", 0)]


def test_what_a_receiver_holds_counts_once_however_often_it_says_so(stand):
    stand.given(10)
    stand.acknowledge(0, receiver=5)
    for _ in range(2):
        stand.acknowledge(0, receiver=5, held=1)
    assert stand.pipeline.counters.acknowledged == 1
    assert [event.event for event in stand.told].count("acked") == 1


def test_that_a_frame_is_held_tells_of_its_base_layer_whose_own_word_was_lost(stand):
    stand.given(10)
    stand.acknowledge(0, layer=3, receiver=5, held=4)
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


@pytest.mark.parametrize("triggered", [False, True])
def test_who_judges_what_is_new_sees_each_frame_whole(triggered):
    """Of frames seen in parts most are the same to it; noise in one seen whole would then be new."""
    codec, random, seen = load(), np.random.default_rng(3), []

    class Watched:
        has_reference, unpack = True, codec.unpack

        def analyze(self, image):
            seen.append(image.shape)
            return codec.analyze(image)

    trigger = SemanticTrigger(Bundle.open(DEFAULT), send_on="change") if triggered else None
    control = Control()
    packer = SenderPipeline(codec=Watched(), topics=TOPICS, control=control, publish=print, trigger=trigger).packer
    photo, news = read_picture(min(PHOTOS.glob("*.jpg")))[:128, :192], []
    for number in range(80):
        noise = random.normal(0, 1.5, photo.shape)
        image = np.rint((photo + noise).clip(0, 255)).astype(np.uint8)
        latent = packer.analyze(Frame(image, "f", 1))
        if trigger is not None:
            news.append(trigger.look(latent, 0.01 * number))
            trigger.sent(number, news[-1], 0.01 * number)
            trigger.delivered(number)
    assert len(seen) == 80 if triggered else len(seen) < 10
    assert not any(one.novelty >= 1 for one in news[40:])


def test_queries_and_a_region_are_asked_for(stand):
    stand.command("watch", queries=("a truck", "red car"), vectors=(b"", b"v" * 64))
    assert stand.trigger.asked == [(("a truck", "red car"), (b"", b"v" * 64))]
    stand.command("region", roi=(0.5, 0.5, 0.5, 0.5), drop=40)
    stand.given(10)
    region = stand.published[-1].side_info.region
    assert (region.left, region.top, region.right, region.bottom, region.drop) == (2, 2, 3, 3, 40)


def test_a_sender_without_a_head_says_so_and_goes_on(tmp_path, caplog):
    made = Stand(tmp_path, None)
    made.command("watch", queries=("a truck",))
    assert "--watch" in caplog.text
    made.spool.close()
