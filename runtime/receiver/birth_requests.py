"""Birth requests: how a receiver gets the birth of a stream that it hears without one.

Without its birth a sealed stream stays closed. Some brokers give a retained message only to a filter without wildcard,
so the receiver subscribes to that one birth. Where none comes of it (the nodes of a RabbitMQ cluster keep retained
messages each for itself), it asks the sender by an empty command, which needs no signature.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edgesem.errors import EdgesemError
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)

_WAITS_S = (2.0, 30.0, 600.0)
"""How long to wait for a birth before the sender is asked, each time; some senders have none."""
_SILENT_S = 60.0
"""A stream that was not heard without its birth for so long gives way to another: its birth has come, or it is gone."""


@dataclass
class _Request:
    """What was asked for of one stream."""

    topics: Topics
    due_s: list[float]
    """When its sender is to be asked, the last time first."""
    heard_s: float
    """When it was last heard without its birth."""


class BirthRequests:
    """Birth requests of at most `most` streams at a time. `subscribe(topic)`, `publish(topic, payload, qos)` may raise
    LinkError. `leave(topics)` is called with a stream whose birth need not be subscribed to any more.

    Not thread-safe: for the network thread.
    """

    def __init__(
        self,
        subscribe: Callable[[str], None],
        publish: Callable[[str, bytes, int], None],
        most: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        leave: Callable[[Topics], None] = lambda _: None,
    ) -> None:
        self._subscribe, self._publish, self._leave = subscribe, publish, leave
        self._most, self._clock = most, clock
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        """By the base of the stream's topics, the one that was heard last at the end."""
        self._limited_log = RateLimitedLog(log)

    def ask(self, topics: Topics) -> None:
        """A stream is heard without its birth: subscribe to that, or ask the sender if it is time to."""
        now_s, request = self._clock(), self._requests.get(topics.base)
        try:
            if request is None:
                if not self._make_room(now_s):
                    return
                self._subscribe(topics.birth)
                due_s = [now_s + wait_s for wait_s in reversed(_WAITS_S)]
                request = self._requests[topics.base] = _Request(topics, due_s, now_s)
            elif request.due_s and now_s >= request.due_s[-1]:
                self._publish(topics.cmd, b"", 1)
                request.due_s.pop()
        except EdgesemError as error:
            self._limited_log.warn("could not ask for the birth of %s: %s", topics.base, error)
        if request is not None:
            request.heard_s = now_s
            self._requests.move_to_end(topics.base)

    def _make_room(self, now_s: float) -> bool:
        """Whether another stream's birth may be asked for, if need be in place of one that was silent."""
        if len(self._requests) < self._most:
            return True
        base, oldest = next(iter(self._requests.items()))
        if now_s - oldest.heard_s < _SILENT_S:
            return False
        del self._requests[base]
        self._leave(oldest.topics)
        return True
