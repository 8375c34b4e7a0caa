"""Birth requests: subscriptions to single births.

Some brokers give a retained message only to a subscription without a wildcard. Without its birth a sealed stream stays
closed, so a receiver subscribes to the exact birth of a stream that it hears.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgesem.errors import EdgesemError
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)


class BirthRequests:
    """Birth requests, one for each stream and at most `most`. `subscribe(topic)` may raise LinkError.

    Not thread-safe: for the network thread.
    """

    def __init__(self, subscribe: Callable[[str], None], most: int) -> None:
        self._subscribe, self._most = subscribe, most
        self._asked: set[str] = set()
        self._limited_log = RateLimitedLog(log)

    def ask(self, topics: Topics) -> None:
        """Subscribe to a stream's birth, if that was not done before."""
        topic = topics.birth
        if topic in self._asked or len(self._asked) >= self._most:
            return
        self._asked.add(topic)
        try:
            self._subscribe(topic)
        except EdgesemError as error:
            self._limited_log.warn("could not subscribe to %s: %s", topic, error)
