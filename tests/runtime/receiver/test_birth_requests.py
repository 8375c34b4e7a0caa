"""Births that a receiver asks for: what the broker would not take is asked for again."""

from edgesem.errors import LinkError
from runtime.protocol.topics import Topics
from runtime.receiver.birth_requests import BirthRequests

TOPICS = Topics("home", "gate", "main")


class Link:
    """Takes what is asked for, and refuses it as often as was said."""

    def __init__(self):
        self.refuses, self.taken = 0, []

    def __call__(self, topic, *_):
        if self.refuses:
            self.refuses -= 1
            raise LinkError("no connection")
        self.taken.append(topic)


def test_a_birth_that_could_not_be_asked_for_is_asked_for_with_the_next_frame():
    link, now_s = Link(), 0.0
    requests = BirthRequests(link, link, 10, lambda: now_s)
    for refused in (2, 1):
        link.refuses, before = refused, len(link.taken)
        for _ in range(refused):
            requests.ask(TOPICS)
        assert len(link.taken) == before
        requests.ask(TOPICS)
        assert len(link.taken) == before + 1
        requests.ask(TOPICS)  # it was asked for a moment ago
        assert len(link.taken) == before + 1
        now_s = 2.5
    assert link.taken == [TOPICS.birth, TOPICS.cmd]


def test_streams_that_are_silent_give_way_to_others():
    """Names that came and went, or were invented, must not keep a receiver from asking for ever."""
    link, left, now_s = Link(), [], 0.0
    requests = BirthRequests(link, link, 2, lambda: now_s, leave=left.append)
    streams = [Topics("home", f"cam-{number}", "main") for number in range(5)]
    for stream in streams[:3]:
        requests.ask(stream)
    assert link.taken == [one.birth for one in streams[:2]]
    now_s = 59.0
    requests.ask(streams[0])  # it still has no birth
    now_s = 61.0
    requests.ask(streams[3])
    requests.ask(streams[4])
    assert link.taken == [*(one.birth for one in streams[:2]), streams[0].cmd, streams[3].birth]
    assert left == [streams[1]]
