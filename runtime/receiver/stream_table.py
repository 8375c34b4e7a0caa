"""Table of the streams that a receiver knows, bounded: a new one is admitted only while there is room."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.protocol.topics import Topics
from runtime.receiver.options import Limits
from runtime.receiver.stream import Stream

_FORGET_S = 600.0
"""A stream that was silent for so long may be replaced by another."""
_UNSEEN_S = 10.0
"""The same for one that no picture has come of: it may be an invented name."""


class StreamTable:
    """The streams by the base of their topics. Not thread-safe: use it under `Streams.lock`.

    There is always room for a stream for which `is_named` answers True, and no other takes its place.
    """

    def __init__(self, limits: Limits, is_named: Callable[[Topics], bool] = lambda _: False) -> None:
        self._limits, self._is_named = limits, is_named
        self._streams: dict[str, Stream] = {}
        self._named: set[str] = set()

    def get(self, base: str) -> Stream | None:
        """The stream with this base of topics, `edgesem/v1/site/device/stream`."""
        return self._streams.get(base)

    def all(self) -> list[Stream]:
        """All streams, in the order in which they were admitted."""
        return list(self._streams.values())

    def has_room(self, topics: Topics) -> bool:
        """Whether another stream may be admitted, if need be in place of one that was silent."""
        if self._is_named(topics):
            return True
        candidates = self._candidates(topics)
        return candidates is None or self._longest_silent(candidates) is not None

    def admit(self, stream: Stream) -> str | None:
        """Add a stream for which there is room; the name of the one that had to make room for it, or None."""
        base, forgotten = stream.topics.base, None
        if self._is_named(stream.topics):
            self._named.add(base)
        elif (candidates := self._candidates(stream.topics)) is not None and (
            replaced := self._longest_silent(candidates)
        ) is not None:
            del self._streams[replaced.topics.base]
            forgotten = replaced.name
        self._streams[base] = stream
        return forgotten

    def _candidates(self, topics: Topics) -> list[Stream] | None:
        """The streams of which one must go if another is admitted; None if there is room."""
        streams = [one for base, one in self._streams.items() if base not in self._named]
        of_device = [one for one in streams if one.device == (topics.site, topics.device)]
        if len(of_device) >= self._limits.streams_per_device:
            return of_device
        return streams if len(streams) >= self._limits.streams else None

    def _longest_silent(self, streams: list[Stream]) -> Stream | None:
        """The one that may go, first one without a picture, then the one that was silent longest; None if none may."""
        now_s = time.monotonic()
        silent = [
            one for one in streams if not one.busy and now_s - one.heard_s >= (_FORGET_S if one.pictures else _UNSEEN_S)
        ]
        return min(silent, key=lambda one: (one.pictures > 0, one.heard_s), default=None)
