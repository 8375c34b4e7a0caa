"""Requests of a keyframe where nothing is new: a late receiver gets a picture, and many requests bring few."""

import numpy as np

from edgesem.semantics.embedding import DIMENSIONS, to_bytes
from runtime.sender.references import KEY_AT_ONCE_S
from runtime.sender.semantic_trigger import TriggerDecision
from tests.support.reference_model import Model
from tests.support.sender_bench import Control, SimulatedSender


class Quiet:
    """A trigger for which nothing is new."""

    def look(self, latent, now_s, *, connected=True):
        meaning = np.eye(1, DIMENSIONS, dtype=np.float32)[0]
        return TriggerDecision(False, False, 0.5, 0.0, "", 0.0, meaning, to_bytes(meaning))

    def sent(self, frame, decision, now_s):
        pass

    def delivered(self, frame):
        pass


def of_a_quiet_scene(interval_s):
    sender = SimulatedSender(
        codec=Model(), control=Control(interval_s=interval_s), trigger=Quiet(), key_interval_s=3600
    )
    assert [event["event"] for event in sender.show()] == ["unchanged"]
    return sender


def packed(sender):
    return [event.refers_to for event in sender.told if event.event == "packed"]


def test_a_receiver_that_lacks_all_gets_a_picture_in_which_nothing_is_new():
    sender = of_a_quiet_scene(12.0)
    sender.command("key")
    sender.step()
    assert packed(sender) == [None]
    assert [event["event"] for event in sender.show()] == ["unchanged"]


def test_a_request_shortly_after_a_keyframe_is_answered_when_some_seconds_have_passed():
    sender = of_a_quiet_scene(1.0)
    for _ in range(2):
        sender.command("key")
        sender.step()
    assert packed(sender) == [None]
    sender.show(round(KEY_AT_ONCE_S) + 1)
    assert packed(sender) == [None, None]


def test_a_flood_of_requests_makes_a_quiet_sender_send_a_keyframe_each_five_seconds_at_most():
    sender = of_a_quiet_scene(0.1)
    for _ in range(100):
        for _ in range(3):
            sender.command("key")
        sender.show()
    assert 2 <= len(packed(sender)) <= 3
