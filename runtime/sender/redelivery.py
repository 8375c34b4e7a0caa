"""Redelivery of promised frames: which one to send next, oldest first, again until a receiver says that it keeps it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import NamedTuple

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.spool import Spool, SpoolFull

log = logging.getLogger(__name__)

_AT_ONCE, _AT_ONCE_CONFIRMED = 4, 32
_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 600.0


class _Attempt(NamedTuple):
    sent_s: float
    retry_s: float
    """How long to wait for a receiver's word before the next attempt."""


class DueFrame(NamedTuple):
    """A promised frame that is to be sent now."""

    row_id: int
    packet: Packet


class Redelivery:
    """Schedule of the frames of a spool. Call it under the sender's lock, all but `keep` and `settle`.

    While nobody has said `kept` on this connection, only a few are sent, and again after longer and longer times: there
    may be no receiver that keeps anything. As soon as one has, more are sent at once, and all that wait for their next
    attempt wait no longer than for the first.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._attempts: OrderedDict[int, _Attempt] = OrderedDict()
        self._rows: dict[tuple[int, int], int] = {}
        """Row of each frame that was sent, by epoch and frame."""
        self._handles: dict[tuple[int, int], DeliveryHandle] = {}
        self._newest = 0
        self._confirmed = False
        """Whether a receiver has kept something on this connection."""
        self._kept: list[tuple[int, int]] = []
        self._more = True
        """Whether the spool may hold rows after `_newest`."""

    @property
    def waiting(self) -> int:
        """How many frames no receiver keeps yet."""
        return self._spool.waiting

    def reconnected(self) -> None:
        """A new connection: what was sent on the old one may be lost."""
        self._attempts.clear()
        self._rows.clear()
        self._newest, self._confirmed, self._more = 0, False, True

    def keep(self, packet: Packet, handle: DeliveryHandle | None = None) -> bool:
        """Put a frame on the disk; False, and a log line, if that has no room. The handle is told of each step."""
        key = (packet.epoch, packet.frame)
        if handle is not None:
            self._handles[key] = handle  # before it is on disk: once there, it may be sent and acknowledged at once
        try:
            self._spool.add(epoch=packet.epoch, frame=packet.frame, packet=packet.to_bytes())
        except SpoolFull as error:
            log.error("cannot promise frame %d: %s; sending it as an ordinary one", packet.frame, error)
            if handle is not None:
                del self._handles[key]
                handle.refuse(f"the spool has no room: {error}")
            return False
        if handle is not None:
            handle.mark_stored()
        self._more = True
        return True

    def next(self, now_s: float) -> DueFrame | None:
        """The frame that is to be sent now, or None."""
        row_id = next((row for row, last in self._attempts.items() if now_s >= last.sent_s + last.retry_s), None)
        row = self._spool.get(row_id) if row_id is not None else None
        at_once = _AT_ONCE_CONFIRMED if self._confirmed else _AT_ONCE
        if row is None and self._more and len(self._attempts) < at_once:
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
        self._rows[packet.epoch, packet.frame] = row.id
        return DueFrame(row.id, packet)

    def sent(self, row_id: int, now_s: float) -> None:
        """It is being published."""
        before = self._attempts.pop(row_id, None)
        retry_s = _FIRST_RETRY_S if before is None else min(2 * before.retry_s, _LAST_RETRY_S)
        self._attempts[row_id] = _Attempt(now_s, retry_s)
        self._newest = max(self._newest, row_id)

    def acknowledged(self, ack: Ack) -> None:
        """Take a receiver's acknowledgement; only one that says `kept` counts."""
        if not ack.kept:
            return
        row_id = self._rows.pop((ack.epoch, ack.frame), None)
        if row_id is not None:
            self._attempts.pop(row_id, None)
        self._kept.append((ack.epoch, ack.frame))
        if not self._confirmed:
            self._confirmed = True
            for row, attempt in self._attempts.items():
                self._attempts[row] = _Attempt(attempt.sent_s, min(attempt.retry_s, _FIRST_RETRY_S))

    def settle(self) -> list[tuple[int, int]]:
        """Take from the disk what receivers have kept; returns their epochs and frames. Not on the network thread."""
        if not self._kept:
            return []
        kept, self._kept = self._kept, []
        self._spool.delivered(kept)
        for key in kept:
            handle = self._handles.pop(key, None)
            if handle is not None:
                handle.complete()
        return kept

    def close(self) -> None:
        """The sender ends: whoever waits for a frame waits no longer."""
        for handle in list(self._handles.values()):
            handle.close()
