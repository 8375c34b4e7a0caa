"""Subscriptions of a receiver: to all streams of its filters, or, of one shard, to its streams one by one.

A shard hears births of all streams all the time: one comes with each new stream, and of each known one every ten
minutes. Some brokers give no retained message to a filter with a +, and then a running stream is found by its next
state. States come every ten seconds, so those of all streams are heard for the first moments of a connection only, and
not at all where the broker has given a retained birth.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from edgesem.errors import EdgesemError
from edgesem.files import write_whole
from runtime.mqtt.connection import Connection
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics
from runtime.receiver.stream_filter import StreamFilter

log = logging.getLogger(__name__)

LISTEN_S = 25.0
"""How long the states of all streams are listened to: two intervals of a state, and some."""
_SAVE_S = 10.0
_MAX_BYTES = 4 << 20


class ShardSubscriptions:
    """Subscriptions of one receiver. `connection` must not be used before it is entered.

    `topics` are to be subscribed to from the beginning, with a `memory` also those of the streams of the last run.
    `admitted` and `forgotten` may be called by any thread; `up` is called for each new connection, `down` when it is
    lost, `heard` for each message by the network thread; `save` at the end. All but `leave_birth` do nothing
    without a shard.
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
        self._sharded = stream_filter.sharded
        known = [one for one in (memory.load() if memory is not None else ()) if stream_filter.matches(one)]
        self.topics = stream_filter.topics() + [topic for one in known for topic in stream_filter.stream_topics(one)]
        self._remembered = {one.name for one in known}
        """Of these, those that were not heard yet are remembered until all states were listened to."""
        self._heard: set[str] = set()
        self._saved = set(self._remembered)
        self._save_at_s = float("-inf")
        self._states = stream_filter.state_topics()
        self._until_s: float | None = None

    def up(self) -> None:
        """A connection was made: listen to the states of all streams for a moment, if it takes that to know them."""
        if not self._sharded:
            return
        connection = self._connection()
        if connection.retained_by_wildcard:  # retained births come before the round trips by which it is measured
            connection.unsubscribe(*self._states)
        else:
            connection.subscribe(*self._states)
        self._until_s = self._clock() + self._listen_s

    def down(self, _reason: str) -> None:
        """The connection was lost: the next one may bring messages before `up`, and listens anew."""
        self._until_s = None

    def heard(self) -> None:
        """A message has come: stop listening to all states if it is time, and now and then save what is known."""
        if not self._sharded:
            return
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
        if self._sharded and self._filter.matches(topics):
            self._heard.add(topics.name)
            self._connection().subscribe(*self._filter.stream_topics(topics))

    def forgotten(self, name: str) -> None:
        """A stream had to make room for another."""
        topics = Topics.named(name)
        self._heard.discard(name)
        if self._sharded and not self._filter.is_named(topics):
            self._connection().unsubscribe(*self._filter.stream_topics(topics))

    def leave_birth(self, topics: Topics) -> None:
        """A stream's birth was subscribed to besides, and need not be any more."""
        if not self._filter.is_named(topics) and topics.name not in self._heard:
            self._connection().unsubscribe(topics.birth)


class ShardMemory:
    """Names of at most `most` streams of a shard, for the next start: a list in `shard-streams.json` in `folder`.

    A file that cannot be read or written costs a log line.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._path, self._most = folder / "shard-streams.json", most
        self._limited_log = RateLimitedLog(log)

    def load(self) -> list[Topics]:
        """The streams that were saved last; none, if nothing was or the file is damaged."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            names = json.loads(data) if len(data) <= _MAX_BYTES else None
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("it is no list of names")
            return [Topics.named(name) for name in names[: self._most]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError, EdgesemError) as error:
            self._limited_log.warn("%s is of no use: %s; streams are found by what they say", self._path, error)
            return []

    def save(self, names: Collection[str]) -> None:
        """Write the names of the streams anew."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(sorted(names)[: self._most]).encode())
        except (OSError, EdgesemError) as error:
            self._limited_log.warn("%s cannot be written: %s", self._path, error)
