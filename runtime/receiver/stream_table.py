"""Table of the streams that a receiver knows, bounded: a new one is admitted only while there is room."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.protocol.topics import Topics
from runtime.receiver.options import Limits
from runtime.receiver.stream import Stream

_FORGET_S = 600.0
"""A stream that was silent for so long may be replaced by another."""


class StreamTable:
    """The streams by the base of their topics. Not thread-safe: use it under `Streams.lock`.

    `on_forgotten` is called with the name of a stream that had to make room for another.
    """

    def __init__(self, limits: Limits, on_forgotten: Callable[[str], None]) -> None:
        self._limits, self._on_forgotten = limits, on_forgotten
        self._streams: dict[str, Stream] = {}

    def get(self, base: str) -> Stream | None:
        """The stream with this base of topics, `edgesem/v1/site/device/stream`."""
        return self._streams.get(base)

    def all(self) -> list[Stream]:
        """All streams, in the order in which they were admitted."""
        return list(self._streams.values())

    def has_room(self, topics: Topics) -> bool:
        """Whether another stream may be admitted, if need be in place of one that was silent for ten minutes."""
        oldest = self._replaced_by(topics)
        return oldest is None or (not oldest.busy and time.monotonic() - oldest.heard_s >= _FORGET_S)

    def admit(self, stream: Stream) -> None:
        """Add a stream, in place of the one that was silent longest if there is no room."""
        oldest = self._replaced_by(stream.topics)
        if oldest is not None:
            del self._streams[oldest.topics.base]
            self._on_forgotten(oldest.name)
        self._streams[stream.topics.base] = stream

    def _replaced_by(self, topics: Topics) -> Stream | None:
        """The stream that must go if another is admitted, the one that was silent longest; None if there is room."""
        of_device = [one for one in self._streams.values() if one.device == (topics.site, topics.device)]
        full = len(of_device) >= self._limits.streams_per_device
        if not full and len(self._streams) < self._limits.streams:
            return None
        return min(of_device if full else self._streams.values(), key=lambda one: one.heard_s)
