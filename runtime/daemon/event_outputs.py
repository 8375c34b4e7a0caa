"""Event outputs of the receiving daemon: clips and contact sheets, a message on the stream's topic `event`, hooks."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from edgesem.errors import EdgesemError
from edgesem.packet.capture_time import utc_text
from runtime.daemon.event_hooks import EventHooks, HookCall
from runtime.receiver.event_gatherer import QUIET_S, EventGatherer
from runtime.receiver.event_record import EventRecord
from runtime.receiver.event_store import EventStore
from runtime.receiver.received_picture import ReceivedPicture

log = logging.getLogger(__name__)

_MOST_UNTOLD = 200


class EventOutputs:
    """Events of the pictures that are given to `add`, below `folder`. Thread-safe. Use it as a context manager.

    `publish(topic, payload)` may raise EdgesemError while there is no connection: then the message is published by the
    next `refresh`. `report` takes each event as JSON, `on_written` the size of each file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hooks: EventHooks,
        publish: Callable[[str, bytes], None],
        report: Callable[[dict[str, Any]], None],
        on_written: Callable[[int], None],
        quiet_s: float = QUIET_S,
    ) -> None:
        self.store = EventStore(folder, on_changed=lambda: self._gatherer.wake(), on_written=on_written)
        self._gatherer = EventGatherer(self.store, self._tell, quiet_s=quiet_s)
        self._hooks, self._publish, self._report = hooks, publish, report
        self._untold: deque[tuple[str, bytes]] = deque(maxlen=_MOST_UNTOLD)
        self._lock = threading.Lock()
        """Of two threads that publish, one would take away what the other has not published yet."""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> EventOutputs:
        self.store.load()
        self._stack.enter_context(self._hooks)
        self._stack.enter_context(self._gatherer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def clips(self) -> int:
        """Clips that were made."""
        return self._gatherer.made

    def add(self, picture: ReceivedPicture) -> None:
        """Add a picture to its event, if it has one; before it is written as a promised picture."""
        if picture.packet.side_info.event is not None:
            self.store.add(picture)

    def refresh(self) -> None:
        """Publish what could not be; to be called about each second."""
        with self._lock:
            while self._untold:
                try:
                    self._publish(*self._untold[0])
                except EdgesemError:
                    return
                self._untold.popleft()

    def _tell(self, record: EventRecord) -> None:
        """An event has begun, or has its clip."""
        message = {"v": 1, "time": utc_text(record.time_ms), **record.shown()}
        with self._lock:
            self._untold.append((f"{record.topics.base}/event", json.dumps(message).encode()))
        self.refresh()
        folder = self.store.folder
        files = {"picture": record.picture_file(folder), "clip": record.clip_file(folder)}
        files["sheet"] = record.sheet_file(folder) if record.sheet else None
        self._hooks.put(HookCall(message, {name: path for name, path in files.items() if path is not None}))
        self._report({"event": "event", **record.shown()})
