"""Requests of a keyframe: how many are made for how many requests, and when each goes."""

import numpy as np
import pytest

from edgesem.semantics.embedding import DIMENSIONS, to_bytes
from runtime.protocol.ack import Ack
from runtime.sender.references import KEY_AT_ONCE_S
from runtime.sender.semantic_trigger import TriggerDecision
from tests.support.reference_model import Model
from tests.support.sender_bench import TOPICS, Control, SimulatedSender

INTERVAL_S = 12.0


class SlowLink(SimulatedSender):
    """A sender whose broker confirms when the test says so, with one receiver that holds all that it is sent."""

    def __init__(self, **options):
        self.confirms = []
        super().__init__(codec=Model(), control=Control(interval_s=INTERVAL_S), **options)

    def _publish(self, topic, payload, confirm):
        self.messages.append((topic, payload))
        self.confirms.append(confirm)

    def confirm(self):
        """The broker has all that was sent."""
        while self.confirms:
            self.confirms.pop(0)()

    def film(self):
        """A frame comes, is sent, confirmed and held; what it refers to."""
        self.show()
        self.confirm()
        self.hold()
        return self.made[-1].refers_to

    def hold(self):
        ack = Ack(self.pipeline.epoch, self.made[-1].frame, 3, 0, 0, receiver=5, held=4)
        self.pipeline.on_message(TOPICS.ack, ack.to_bytes())

    def ask(self, times=1):
        for _ in range(times):
            self.command("key")
        self.step()

    @property
    def made(self):
        return [event for event in self.told if event.event == "packed"]


@pytest.fixture
def sender():
    """It has sent a keyframe, and inter frames, the last one 6 s ago."""
    made = SlowLink(key_interval_s=3600)
    assert [made.film() for _ in range(3)] == [None, 0, 1]
    made.now_s += 6
    return made


def test_many_receivers_that_come_together_have_one_keyframe_made(sender):
    sender.ask(times=20)
    assert [one.refers_to for one in sender.made[3:]] == [None]
    sender.ask(times=20)  # the broker does not have it yet, so who asks now gets it
    sender.now_s += KEY_AT_ONCE_S + 1
    sender.step()
    assert len(sender.made) == 4
    sender.confirm()
    sender.hold()
    assert sender.film() == 3


def test_a_hundred_receivers_that_ask_do_not_keep_a_command_from_being_obeyed(sender):
    sender.ask(times=100)
    sender.command("pause")
    assert sender.pipeline.paused
    assert [event.kind for event in sender.told if event.event == "asked"] == ["key", "pause"]


def test_who_asks_after_the_broker_has_a_keyframe_has_another_made(sender):
    sender.ask()
    sender.confirm()
    sender.hold()
    sender.now_s += KEY_AT_ONCE_S
    sender.ask()
    assert [one.refers_to for one in sender.made[3:]] == [None, None]


def test_a_keyframe_that_was_lost_with_its_connection_answers_nobody(sender):
    sender.ask()
    sender.pipeline.disconnected()
    sender.pipeline.connected(0.001)
    sender.now_s += KEY_AT_ONCE_S
    sender.ask()
    assert [one.refers_to for one in sender.made[3:]] == [None, None]


def test_shortly_after_a_keyframe_another_goes_when_some_seconds_have_passed_and_not_an_interval(sender):
    sender.ask()
    sender.confirm()
    sender.now_s += 1
    sender.ask(times=5)
    assert len(sender.made) == 4
    sender.now_s += KEY_AT_ONCE_S - 1.5
    sender.step()
    assert len(sender.made) == 4
    sender.now_s += 0.6
    sender.step()
    assert [one.refers_to for one in sender.made[3:]] == [None, None]
    sender.confirm()
    sender.now_s += KEY_AT_ONCE_S + 1
    sender.step()
    assert len(sender.made) == 5  # that was all


class Quiet:
    """A trigger for which nothing is new."""

    def look(self, latent, now_s, *, connected=True):
        meaning = np.eye(1, DIMENSIONS, dtype=np.float32)[0]
        return TriggerDecision(False, False, 0.5, 0.0, "", 0.0, meaning, to_bytes(meaning))

    def sent(self, frame, decision, now_s):
        pass

    def delivered(self, frame):
        pass


def test_a_receiver_that_lacks_all_gets_a_picture_in_which_nothing_is_new():
    sender = SlowLink(trigger=Quiet())
    assert [event["event"] for event in sender.show()] == ["unchanged"]
    sender.ask()
    assert [one.refers_to for one in sender.made] == [None]
    sender.confirm()
    sender.now_s += INTERVAL_S
    assert [event["event"] for event in sender.show()] == ["unchanged"]
