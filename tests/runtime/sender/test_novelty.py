"""Novelty: which frames differ enough from what the receiver has."""

from itertools import pairwise

import numpy as np
import pytest

from edgesem.semantics.embedding import DIMENSIONS
from runtime.sender.novelty import Novelty


def near(degrees):
    """A meaning that lies so far from the first axis."""
    found = np.zeros(DIMENSIONS, np.float32)
    found[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return found


def sends(novelty, meaning, now_s):
    due = novelty.look(meaning, now_s).due
    if due:
        novelty.sent(now_s, meaning, now_s)
    return due


def quiet(**more):
    """A camera that has looked at the same scene for a while; its first frame was delivered."""
    novelty = Novelty(**more)
    for t in range(-30, 0):
        sends(novelty, near(0.2 * (t % 2)), t)
        novelty.delivered(t)
    return novelty


def test_only_news_are_sent_and_a_heartbeat():
    novelty = quiet(heartbeat_s=10)
    sent = [t for t in range(25) if sends(novelty, near(0), t) and novelty.delivered(t) is None]
    assert len(sent) in (2, 3)
    assert all(b - a == 10 for a, b in pairwise(sent))
    assert sends(novelty, near(20), 25)


def test_what_was_sent_is_known_only_until_it_must_have_come():
    novelty = quiet(patience_s=3, heartbeat_s=1e9)
    assert sends(novelty, near(20), 1)
    assert not sends(novelty, near(20), 2)  # under way
    assert sends(novelty, near(20), 5)  # lost, it seems
    novelty.delivered(5)
    assert not sends(novelty, near(20), 6)


def test_a_restless_scene_raises_the_bar_and_sensitivity_lowers_it():
    calm, restless = quiet(), Novelty()
    for t in range(100):
        restless.look(near(15 * (t % 2)), t)
    assert restless.threshold > 5 * calm.threshold
    assert quiet(sensitivity=2).threshold == pytest.approx(calm.threshold / 2)


def test_a_change_is_followed_until_it_is_well_below_what_began_it():
    novelty = quiet(heartbeat_s=1e9, patience_s=0)
    novelty.low = 0.3
    bar = np.degrees(np.arccos(1 - novelty.threshold))
    seen = [novelty.look(near(share * bar), t).due for t, share in enumerate([0.8, 1.2, 0.8, 0.1, 0.8])]
    assert seen == [False, True, True, False, False]
