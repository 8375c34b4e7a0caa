"""Birth requests: how a receiver gets the birth of a stream that it hears without one.

Without its birth a sealed stream stays closed. Some brokers give a retained message only to a filter without wildcard,
so the receiver subscribes to that one birth. Where none comes of it (the nodes of a RabbitMQ cluster keep retained
messages each for itself), it asks the sender by an empty command, which needs no signature.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edgesem.errors import EdgesemError
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)

_WAITS_S = (2.0, 30.0, 600.0)
"""How long to wait for a birth before the sender is asked, each time; some senders have none."""


class BirthRequests:
    """Birth requests of at most `most` streams. `subscribe(topic)`, `publish(topic, payload, qos)` may raise LinkError.

    Not thread-safe: for the network thread.
    """

    def __init__(
        self,
        subscribe: Callable[[str], None],
        publish: Callable[[str, bytes, int], None],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscribe, self._publish, self._most, self._clock = subscribe, publish, most, clock
        self._due: dict[str, list[float]] = {}
        """When each stream's sender is to be asked, the last time first."""
        self._limited_log = RateLimitedLog(log)

    def ask(self, topics: Topics) -> None:
        """A stream is heard without its birth: subscribe to that, or ask the sender if it is time to."""
        now_s, due = self._clock(), self._due.get(topics.base)
        try:
            if due is None:
                if len(self._due) < self._most:
                    self._subscribe(topics.birth)
                    self._due[topics.base] = [now_s + wait_s for wait_s in reversed(_WAITS_S)]
            elif due and now_s >= due[-1]:
                self._publish(topics.cmd, b"", 1)
                due.pop()
        except EdgesemError as error:
            self._limited_log.warn("could not ask for the birth of %s: %s", topics.base, error)
