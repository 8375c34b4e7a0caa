"""Which promised frame to send next: the oldest first, and again until a receiver says that it keeps it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import NamedTuple

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.sender.spool import Spool, SpoolFull

log = logging.getLogger(__name__)

_AT_ONCE_HEARD, _AT_ONCE = 32, 4
_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 600.0


class _Try(NamedTuple):
    sent_s: float
    retry_s: float


class Due(NamedTuple):
    """A promised frame whose turn it is."""

    row_id: int
    packet: Packet


class Redelivery:
    """The frames of a spool on their way. Call it under the sender's lock, all but `keep` and `settle`.

    While nobody has said `kept` on this connection, only a few are sent, and again after longer and longer times: there
    may be no receiver that keeps anything. As soon as one is heard, all that wait for their next try go at once.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._tried: OrderedDict[int, _Try] = OrderedDict()
        self._ids: dict[tuple[int, int], int] = {}
        """Row of each frame that was tried, by epoch and frame."""
        self._newest = 0
        self._heard = False
        self._kept: list[tuple[int, int]] = []
        self._more = True
        """Whether the spool may hold rows after `_newest`."""

    @property
    def waiting(self) -> int:
        """How many frames no receiver keeps yet."""
        return self._spool.waiting

    def begin_anew(self) -> None:
        """A new connection: what was sent on the old one may be lost."""
        self._tried.clear()
        self._ids.clear()
        self._newest, self._heard, self._more = 0, False, True

    def keep(self, packet: Packet) -> bool:
        """Put a frame on the disk; False, and a log line, if that has no room."""
        try:
            self._spool.add(epoch=packet.epoch, frame=packet.frame, packet=packet.to_bytes())
        except SpoolFull as error:
            log.error("cannot promise frame %d: %s; sending it as an ordinary one", packet.frame, error)
            return False
        self._more = True
        return True

    def next(self, now_s: float) -> Due | None:
        """The frame whose turn it is, or None."""
        row_id = next((row for row, attempt in self._tried.items() if now_s >= attempt.sent_s + attempt.retry_s), None)
        row = self._spool.get(row_id) if row_id is not None else None
        if row is None and self._more and len(self._tried) < (_AT_ONCE_HEARD if self._heard else _AT_ONCE):
            self._more = False  # before looking: `keep` may add one at this moment
            row = self._spool.after(self._newest)
            self._more = self._more or row is not None
        if row is None:
            return None
        try:
            packet = Packet.from_bytes(row.packet)
        except PacketError as error:  # the disk has changed it
            log.error("a promised frame was damaged on the disk and is left there: %s", error)
            self._newest = max(self._newest, row.id)
            return None
        self._ids[packet.epoch, packet.frame] = row.id
        return Due(row.id, packet)

    def sent(self, row_id: int, now_s: float) -> None:
        """It is being published."""
        before = self._tried.pop(row_id, None)
        retry_s = _FIRST_RETRY_S if before is None else min(2 * before.retry_s, _LAST_RETRY_S)
        self._tried[row_id] = _Try(now_s, retry_s)
        self._newest = max(self._newest, row_id)

    def heard(self, ack: Ack) -> None:
        """Take what a receiver has said."""
        if not ack.kept:
            return
        row_id = self._ids.pop((ack.epoch, ack.frame), None)
        if row_id is not None:
            self._tried.pop(row_id, None)
        self._kept.append((ack.epoch, ack.frame))
        if not self._heard:
            self._heard = True
            for row, attempt in self._tried.items():
                self._tried[row] = _Try(attempt.sent_s, min(attempt.retry_s, _FIRST_RETRY_S))

    def settle(self) -> list[tuple[int, int]]:
        """Take from the disk what receivers have kept; returns their epochs and frames. Not on the network thread."""
        if not self._kept:
            return []
        kept, self._kept = self._kept, []
        self._spool.delivered(kept)
        return kept
