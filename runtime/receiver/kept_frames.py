"""Kept frames of a receiver: promised frames on their way to the disk, and from there to the decoders."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgesem.packet.packet import Packet
from runtime.protocol.topics import Topics
from runtime.receiver.frame_queue import MAX_PROMISED
from runtime.receiver.inbox import Settle
from runtime.receiver.promised_store import PromisedStore
from runtime.receiver.stream_table import StreamTable

_REFILL = 32
"""So many kept frames of a stream are read at a time."""


class KeptFrames:
    """Kept frames in `store`. Thread-safe.

    `changed` has the lock of the streams in `table`, and is notified of frames that may wait now. `may_wait` answers,
    under that lock, whether there is memory for more of them. `queue(topics, packets)` is called without the lock, with
    frames for a decoder, `publish_all` too: it sends what was acknowledged.
    """

    def __init__(
        self,
        store: PromisedStore,
        *,
        changed: threading.Condition,
        table: StreamTable,
        may_wait: Callable[[], bool],
        queue: Callable[[Topics, list[Packet]], None],
        publish_all: Callable[[], None],
    ) -> None:
        self._store, self._changed, self._table = store, changed, table
        self._may_wait, self._queue, self._publish_all = may_wait, queue, publish_all

    def keep(self, topics: Topics, packet: Packet, settle: Settle) -> None:
        """Have a promised frame written to disk; `settle` is called under the lock when that is done."""

        def settled(safe: bool, new: bool) -> None:
            name = self._store.path_of(topics, packet).name  # asks the disk, so without the lock
            with self._changed:
                settle(safe, new, lambda: self._store.undrawn.claim(topics, name))
                self._changed.notify()
            self._publish_all()

        self._store.put(topics, packet, settled)

    def refill(self) -> None:
        """Queue kept frames that still have no picture, from the disk; called without the lock."""
        self._store.undrawn.refill(self._room_for, self._queue)

    def mark_drawn(self, topics: Topics, packet: Packet) -> None:
        """Note on the disk that a kept frame has got its picture."""
        self._store.mark_drawn(topics, packet)

    def _room_for(self, topics: Topics) -> int:
        """How many kept frames of a stream are to be read and queued now."""
        with self._changed:
            stream = self._table.get(topics.base)
            if stream is None and not self._table.has_room(topics):
                return 0
            waiting = 0 if stream is None else stream.inbox.queue.promised
            if not self._may_wait():
                return 0 if waiting else 1  # so that no stream waits for the others
            return _REFILL if waiting + _REFILL <= MAX_PROMISED else 0
