"""Requests of a receiver to the senders of its streams: layers apart, a keyframe, another bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runtime.protocol.command import APART_S, MOST_BUNDLES, Command
from runtime.receiver.feedback import Feedback
from runtime.receiver.stream import Stream

_APART_EVERY_S = APART_S / 3
KEY_EVERY_S = 1.0
_MOST_FIRST, _FIRST_AGAIN_S = 5, 9.0  # states come each 10 s
_BUNDLE_EVERY_S = 60.0


class SenderRequests:
    """Requests to senders. Use it under `Streams.lock`; `Feedback.publish_all` sends them outside of it."""

    def __init__(self, feedback: Feedback, bundle_ids: Sequence[int]) -> None:
        self._feedback, self._bundle_ids = feedback, tuple(bundle_ids)

    def after_packet(self, stream: Stream) -> None:
        """Ask for what the stream's latest packet shows to be needed."""
        now_s, inbox = time.monotonic(), stream.inbox
        if inbox.more_than_asked and now_s - stream.asked_apart_s >= _APART_EVERY_S:
            stream.asked_apart_s = now_s
            self._feedback.command(stream.topics, Command("apart"), inbox.seal)
        if inbox.other_bundle is not None and now_s - stream.told_bundle_s >= _BUNDLE_EVERY_S:
            stream.told_bundle_s = now_s
            command = Command("bundle", bundles=self._bundle_ids[:MOST_BUNDLES])
            self._feedback.command(stream.topics, command, inbox.other_seal)

    def after_news(self, stream: Stream) -> None:
        """Ask for a first keyframe if birth and state tell of a sender that has sent frames, and we hold none of them.

        Five times for each start of a sender, at states that are 9, 18, 36 and 72 s apart at least: a request may be
        lost. What else is missing shows when it is referred to. With QoS 0, because many streams may be heard of at
        once, and a broker takes few messages of QoS 1 at a time.
        """
        birth, state = stream.birth, stream.state
        if birth is None or state is None or not state.up or birth.epoch != state.epoch or not state.frames:
            return
        if birth.bundle_id not in self._bundle_ids or not self._feedback.receiver:
            return
        if stream.asked_first[0] != birth.salt:
            stream.asked_first = (birth.salt, 0)
        times = stream.asked_first[1]
        if times == _MOST_FIRST or stream.references.has_any(birth.epoch):
            return
        now_s = time.monotonic()
        if now_s - stream.asked_key_s >= (_FIRST_AGAIN_S * 2 ** (times - 1) if times else KEY_EVERY_S):
            stream.asked_key_s, stream.asked_first = now_s, (birth.salt, times + 1)
            self._feedback.command(stream.topics, Command("key"), stream.inbox.seals.of(birth.public_key), qos=0)

    def keyframe(self, stream: Stream) -> None:
        """Ask for a keyframe, once a second at most. Not where we have no number: nobody would refer to our frames."""
        now_s = time.monotonic()
        if self._feedback.receiver and now_s - stream.asked_key_s >= KEY_EVERY_S:
            stream.asked_key_s = now_s
            self._feedback.command(stream.topics, Command("key"), stream.inbox.seal)
