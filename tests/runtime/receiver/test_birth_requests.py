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
