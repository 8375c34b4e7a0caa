"""Filters of the streams that a receiver takes, as `SITE/DEVICE/STREAM` with + for any name."""

from __future__ import annotations

from collections.abc import Sequence

from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS
from runtime.protocol.shard import Shard
from runtime.protocol.topics import Topics

_MAX_FILTERS = 32


class StreamFilter:
    """The streams that a receiver takes: those that match a filter and, if there is a `shard`, belong to that.

    Raises UsageError for a filter that is none, or for too many.
    """

    def __init__(self, streams: Sequence[str], layers: int = MAX_LAYERS, shard: Shard | None = None) -> None:
        if not 1 <= len(streams) <= _MAX_FILTERS:
            raise UsageError(f"{len(streams)} streams named, 1 to {_MAX_FILTERS} can be: use + for any name")
        self._layers, self._shard = layers, shard
        self.sharded = shard is not None
        """Whether other receivers take a part of the streams."""
        self._filters: list[tuple[str | None, ...]] = []
        """Site, device and stream; None for any name."""
        for stream in streams:
            parts = stream.split("/")
            if len(parts) != 3:
                raise UsageError(f"{stream!r} is no stream: write SITE/DEVICE/STREAM, with + for any name")
            Topics(*("any" if part == "+" else part for part in parts))  # checks the names
            self._filters.append(tuple(None if part == "+" else part for part in parts))

    def topics(self) -> list[str]:
        """MQTT topic filters of births, states and packets; of a shard without the packets of streams with a + in their
        filter, of which `stream_topics` are to be subscribed to one by one."""
        topics = []
        for parts in self._filters:
            base = "/".join(["edgesem/v1", *("+" if part is None else part for part in parts)])
            site, device, stream = parts
            if self._shard is None:
                topics += self._topics_of(base)
            elif site is None or device is None or stream is None:
                topics.append(f"{base}/birth")
            elif self._shard.owns(Topics(site, device, stream)):
                topics += self._topics_of(base)
        return topics

    def state_topics(self) -> list[str]:
        """Of a shard: filters of the states of all streams with a + in their filter, by which it learns of streams
        sooner than by their births alone."""
        births = [topic for topic in self.topics() if topic.endswith("/birth") and "+" in topic]
        return [topic.removesuffix("birth") + "state" for topic in births if self._shard is not None]

    def stream_topics(self, topics: Topics) -> list[str]:
        """MQTT topic filters of one stream."""
        return self._topics_of(topics.base)

    def matches(self, topics: Topics) -> bool:
        """Whether a stream was asked for. Some brokers send what nobody has subscribed to."""
        return self.asks_for(topics) and (self._shard is None or self._shard.owns(topics))

    def asks_for(self, topics: Topics) -> bool:
        """Whether a stream matches a filter, whichever shard takes it."""
        names = (topics.site, topics.device, topics.stream)
        return any(
            all(part is None or part == name for part, name in zip(parts, names, strict=True))
            for parts in self._filters
        )

    def is_of_another_shard(self, topics: Topics) -> bool:
        """Whether a stream was asked for, but another shard takes it."""
        return self._shard is not None and self.asks_for(topics) and not self._shard.owns(topics)

    def is_named(self, topics: Topics) -> bool:
        """Whether a stream was named in full: then a place is kept for it, whoever else sends."""
        return (topics.site, topics.device, topics.stream) in self._filters

    def _topics_of(self, base: str) -> list[str]:
        some = [*(f"pkt/{layer}" for layer in range(self._layers)), "pkt/piece"]
        kinds = ["pkt/+"] if self._layers == MAX_LAYERS else some
        return [f"{base}/{kind}" for kind in ("birth", "state", *kinds)]
