"""Memory of a shard: the names of its streams, on disk, so that a receiver that starts anew subscribes to them at once.

Some brokers give no retained message to a filter with a +; without this file, a stream would be dark until its next
state. It is `shard-streams.json` in the state folder, a list of names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

from edgesem.errors import EdgesemError
from edgesem.files import write_whole
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)

_MAX_BYTES = 4 << 20


class ShardMemory:
    """Memory of at most `most` streams in `folder`. A file that cannot be read or written costs a log line."""

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
