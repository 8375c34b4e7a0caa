"""Subscriptions of a receiver that takes one shard: to its own streams one by one, as it learns of them.

Births of all streams are heard all the time: one comes with each new stream, and of each known one every ten minutes.
Some brokers give no retained message to a filter with a +, and then a running stream is found by its next state. States
come every ten seconds, so those of all streams are heard for the first moments of a connection only, and not at all
where the broker has given a retained birth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.mqtt.connection import Connection
from runtime.protocol.topics import Topics
from runtime.receiver.shard_memory import ShardMemory
from runtime.receiver.stream_filter import StreamFilter

LISTEN_S = 25.0
"""How long the states of all streams are listened to: two intervals of a state, and some."""
_SAVE_S = 10.0


class ShardSubscriptions:
    """Subscriptions of one shard. `connection` must not be used before it is entered.

    `admitted` and `forgotten` may be called by any thread; `up` is called for each new connection, `down` when it is
    lost, `heard` for each message by the network thread; `save` at the end. With a `memory`, the streams of the last
    run are to be subscribed to from the beginning: `topics` has their filters.
    """

    def __init__(
        self,
        stream_filter: StreamFilter,
        connection: Callable[[], Connection],
        memory: ShardMemory | None = None,
        listen_s: float = LISTEN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._filter, self._connection, self._listen_s, self._clock = stream_filter, connection, listen_s, clock
        self._memory = memory
        known = [one for one in (memory.load() if memory is not None else ()) if stream_filter.matches(one)]
        self.topics = [topic for one in known for topic in stream_filter.stream_topics(one)]
        self._remembered = {one.name for one in known}
        """Of these, those that were not heard yet are remembered until all states were listened to."""
        self._heard: set[str] = set()
        self._saved = set(self._remembered)
        self._save_at_s = float("-inf")
        self._states = stream_filter.state_topics()
        self._until_s: float | None = None

    def up(self) -> None:
        """A connection was made: listen to the states of all streams for a moment, if it takes that to know them."""
        connection = self._connection()
        if connection.retained_by_wildcard:  # retained births come before the round trips by which it is measured
            connection.unsubscribe(*self._states)
        else:
            connection.subscribe(*self._states)
        self._until_s = self._clock() + self._listen_s

    def down(self) -> None:
        """The connection was lost: the next one may bring messages before `up`, and listens anew."""
        self._until_s = None

    def heard(self) -> None:
        """A message has come: stop listening to all states if it is time, and now and then save what is known."""
        now_s = self._clock()
        if self._until_s is not None and now_s >= self._until_s:
            self._until_s = None
            self._remembered.clear()
            self._connection().unsubscribe(*self._states)
        if now_s >= self._save_at_s:
            self._save_at_s = now_s + _SAVE_S
            self.save()

    def save(self) -> None:
        """Remember the streams for the next run, if they are others than before."""
        names = self._remembered | set(self._heard)
        if self._memory is not None and names != self._saved:
            self._saved = names
            self._memory.save(names)

    def admitted(self, topics: Topics) -> None:
        """A stream is new: subscribe to it, if it is ours; promised frames on the disk may be of one that is not."""
        if self._filter.matches(topics):
            self._heard.add(topics.name)
            self._connection().subscribe(*self._filter.stream_topics(topics))

    def forgotten(self, name: str) -> None:
        """A stream had to make room for another."""
        topics = Topics.named(name)
        self._heard.discard(name)
        if not self._filter.is_named(topics):
            self._connection().unsubscribe(*self._filter.stream_topics(topics))
