"""Filters of the streams that a receiver takes, as `SITE/DEVICE/STREAM` with + for any name."""

from __future__ import annotations

from collections.abc import Sequence

from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_LAYERS
from runtime.protocol.topics import Topics

_MAX_FILTERS = 32


class StreamFilter:
    """The streams that a receiver takes. Raises UsageError for a filter that is none, or for too many."""

    def __init__(self, streams: Sequence[str], layers: int = MAX_LAYERS) -> None:
        if not 1 <= len(streams) <= _MAX_FILTERS:
            raise UsageError(f"{len(streams)} streams named, 1 to {_MAX_FILTERS} can be: use + for any name")
        self._layers = layers
        self._filters: list[tuple[str | None, ...]] = []
        """Site, device and stream; None for any name."""
        for stream in streams:
            parts = stream.split("/")
            if len(parts) != 3:
                raise UsageError(f"{stream!r} is no stream: write SITE/DEVICE/STREAM, with + for any name")
            Topics(*("any" if part == "+" else part for part in parts))  # checks the names
            self._filters.append(tuple(None if part == "+" else part for part in parts))

    def topics(self) -> list[str]:
        """MQTT topic filters of births, states and packets."""
        some = [*(f"pkt/{layer}" for layer in range(self._layers)), "pkt/piece"]
        kinds = ["pkt/+"] if self._layers == MAX_LAYERS else some
        return [
            "/".join(["edgesem/v1", *("+" if part is None else part for part in parts), kind])
            for parts in self._filters
            for kind in ("birth", "state", *kinds)
        ]

    def matches(self, topics: Topics) -> bool:
        """Whether a stream was asked for. Some brokers send what nobody has subscribed to."""
        names = (topics.site, topics.device, topics.stream)
        return any(
            all(part is None or part == name for part, name in zip(parts, names, strict=True))
            for parts in self._filters
        )

    def is_named(self, topics: Topics) -> bool:
        """Whether a stream was named in full: then a place is kept for it, whoever else sends."""
        return (topics.site, topics.device, topics.stream) in self._filters
