"""Redelivery of promised frames: which one to send next, again until a receiver says that it keeps it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.sender.delivery import DeliveryHandle, DeliveryHandles
from runtime.sender.events import PromiseKept, PromiseRejected
from runtime.sender.new_frames import NewFrames
from runtime.sender.rejection import Rejection
from runtime.sender.slots import Attempt, Slots
from runtime.sender.spool import Spool, SpooledFrame, SpoolFull

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 600.0
_SILENCE_S, _ROUND_TRIPS = 15.0, 4
"""Where promised frames went unanswered for so long, and for so many round trips, there was no receiver; one that says
something then is news."""


class DueFrame(NamedTuple):
    """A promised frame that is to be sent now."""

    row_id: int
    packet: Packet


class Redelivery:
    """Schedule of the frames of a spool. Call it under the sender's lock, all but `keep` and `settle`.

    A new frame is tried at once, whatever waits; but after three new ones in a row, one that waits has its turn. Those
    that wait are tried once each, newest first, and then again. Only a few stand in a slot at a time, and each slot is
    used again after a longer and longer time. An acknowledgement of any receiver after a silence begins it all anew; if
    that is in vain, what was tried since then lets the others go first the next time.

    What the broker refuses goes to the end. A frame that nobody takes is rejected (`Rejection`): a dead letter, so that
    it holds up no other. Those of earlier starts are tried once in this one, after all others, when a receiver has kept
    something: it may be another receiver.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._limited_log = RateLimitedLog(log)  # a full disk refuses each frame
        self._new = NewFrames()
        self._slots = Slots()
        self._later: dict[int, float] = {}
        """Rows without a slot that were tried: again after all others, and not before this time."""
        self._rows: dict[tuple[int, int], int] = {}
        """Row of each frame that was sent on this connection, by epoch and frame."""
        self._handles = DeliveryHandles()
        self._below: int | None = None
        """The rows from this one on have been tried, or are new; None: none has been looked at."""
        self._more = True
        """Whether there may be rows below."""
        self._unanswered_s = float("inf")
        """When the first was sent of those after which no receiver has said anything."""
        self._kept: dict[int, tuple[int, int]] = {}
        """Epoch and frame of the rows that a receiver has kept and that are still on the disk."""
        self._rejection = Rejection()
        self._rejected: list[PromiseRejected] = []
        """Those that were not told yet."""
        self._dead = sorted(spool.dead_letters)
        """Dead letters of earlier starts that were not tried in this one."""
        self._anew_s = float("inf")
        """When all began anew for the first time since a receiver has kept something."""
        self._rtt_s = 0.0

    @property
    def waiting(self) -> int:
        """How many frames no receiver keeps yet, without the dead letters."""
        return self._spool.waiting

    @property
    def retry_s(self) -> float:
        """How long to wait for a receiver's word at first."""
        return max(_FIRST_RETRY_S, _ROUND_TRIPS * self._rtt_s)

    def reconnected(self, rtt_s: float | None = None) -> None:
        """A new connection: what was sent on the old one may be lost. `rtt_s`: the round trip to the broker."""
        self._rows.clear()
        self._rtt_s = rtt_s or 0.0
        self._slots.confirmed, self._unanswered_s, self._anew_s = False, float("inf"), float("inf")
        self._begin_anew()

    def keep(self, packet: Packet, handle: DeliveryHandle | None = None) -> bool:
        """Put a frame on the disk; False, and a log line, if that has no room. The handle is told of each step."""
        key = (packet.epoch, packet.frame)
        self._handles.add(key, handle)  # before it is on disk: once there, it may be sent and acknowledged at once
        try:
            row_id = self._spool.add(epoch=packet.epoch, frame=packet.frame, packet=packet.to_bytes())
        except SpoolFull as error:
            self._limited_log.warn("cannot promise frame %d: %s; sending it as an ordinary one", packet.frame, error)
            self._handles.refuse(key, f"the spool has no room: {error}")
            self._handles.leave(key)
            return False
        self._handles.mark_stored(key)
        self._new.add(row_id)
        return True

    def next(self, now_s: float) -> DueFrame | None:
        """The frame that is to be sent now, or None."""
        return self._good(lambda: self._next_row(now_s))

    def newer(self, row_id: int, now_s: float) -> DueFrame | None:
        """The newest frame that was promised after this row and not tried on this connection, or None."""
        return self._good(lambda: self._newer_row(row_id, now_s))

    def expect(self, row_id: int, packet: Packet) -> None:
        """A frame goes, or goes on, on this connection: a receiver may say that it keeps it."""
        self._rows[packet.epoch, packet.frame] = row_id

    def sent(self, row_id: int, now_s: float) -> None:
        """It is being published."""
        if row_id in self._dead:
            self._dead.remove(row_id)
            return
        self._new.tried(row_id)
        slot = self._leave_queues(row_id)
        self._unanswered_s = min(self._unanswered_s, now_s)
        if reason := self._rejection.tried(row_id, now_s):
            self._reject(row_id, reason)
            return
        if slot is None and self._slots.full:
            due = self._slots.due(now_s)
            if due is None:  # a new one, which is tried without a slot
                self._later[row_id] = now_s + self.retry_s
                return
            slot = self._slots.leave(due)
            self._later[due] = now_s + self.retry_s
        retry_s = self.retry_s if slot is None else min(2 * slot.retry_s, _LAST_RETRY_S)
        self._slots.put(row_id, Attempt(now_s, retry_s))

    def postpone(self, row_id: int, now_s: float, after_s: float = _FIRST_RETRY_S) -> None:
        """It is still on its way, or could not leave: look at it again after a time."""
        if self._spool.is_rejected(row_id):
            return
        before = self._leave_queues(row_id)
        retry_s = self.retry_s if before is None else before.retry_s
        self._slots.put(row_id, Attempt(now_s + after_s - retry_s, retry_s))

    def refused(self, row_id: int, reason: str, now_s: float) -> None:
        """The broker does not take it: it goes to the end, or is rejected."""
        self._leave_queues(row_id)
        if self._spool.is_rejected(row_id):
            return
        if self._rejection.refused(row_id):
            self._reject(row_id, reason)
        else:
            self._later[row_id] = now_s + self.retry_s

    def row_of(self, epoch: int, frame: int) -> int | None:
        """The row of a frame that was sent on this connection; None if it is none."""
        return self._rows.get((epoch, frame))

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """Take a receiver's acknowledgement; one that says `kept` counts for a frame sent on this connection only."""
        silent_s, self._unanswered_s = now_s - self._unanswered_s, float("inf")
        key = (ack.epoch, ack.frame)
        if ack.kept and key in self._rows:
            row_id = self._rows.pop(key)
            self._leave_queues(row_id)
            self._rejection.kept(row_id, now_s)
            self._kept[row_id] = key
            self._slots.confirmed, self._anew_s = True, float("inf")
        if silent_s > max(_SILENCE_S, _ROUND_TRIPS * self._rtt_s) and self.waiting:
            self._begin_anew(now_s)

    def settle(self) -> list[PromiseKept | PromiseRejected]:
        """Take from the disk what receivers have kept, note there what nobody takes; returns what there is to tell.

        Not on the network thread: the disk may be slow.
        """
        rejected, self._rejected = self._rejected, []
        self._spool.note_rejected()
        kept = dict(self._kept)  # a copy: the network thread adds to it
        if kept:
            self._spool.delivered(kept.values())
        for row_id, key in kept.items():
            del self._kept[row_id]
            self._handles.complete(key)
            self._handles.leave(key)
        return [*(PromiseKept(*key) for key in kept.values()), *rejected]

    def close(self) -> None:
        """The sender ends: whoever waits for a frame waits no longer."""
        self._handles.close()

    def _begin_anew(self, now_s: float = float("inf")) -> None:
        """Try all that waits from the newest on; but what was sent a moment ago has its time to be acknowledged."""
        self._slots.clear()
        tried = sorted(self._rejection.tried_s.items(), key=lambda row: row[1])
        lately_s = min(now_s - self.retry_s, self._anew_s)
        self._later = {row_id: tried_s + self.retry_s for row_id, tried_s in tried if tried_s >= lately_s}
        self._anew_s = min(self._anew_s, now_s)
        self._below, self._more = None, True
        self._new.clear()

    def _good(self, next_row: Callable[[], SpooledFrame | None]) -> DueFrame | None:
        """The frame of the next row; those that are damaged are rejected."""
        while (row := next_row()) is not None:
            try:
                packet = Packet.from_bytes(row.packet)
            except PacketError as error:  # the disk has changed it
                self._reject(row.id, f"it was damaged on the disk: {error}")
                continue
            self.expect(row.id, packet)
            return DueFrame(row.id, packet)
        return None

    def _next_row(self, now_s: float) -> SpooledFrame | None:
        """The row that is to be tried now. Nothing changes before it is: there may be no room for it yet."""
        if self._new.has_turn:
            return self._new_row(now_s) or self._waiting(now_s)
        return self._waiting(now_s) or self._new_row(now_s)

    def _newer_row(self, row_id: int, now_s: float) -> SpooledFrame | None:
        """The row that is to be tried before one that has begun; read from the disk only if there may be one."""
        row = None
        if (self._new.newest or 0) > row_id:
            row = self._new_row(now_s)
        elif (self._below is None or self._below > row_id + 1) and not self._slots.full:
            row = self._untried()
            if row is not None and row.id <= row_id:
                self._below = row.id + 1
        return row if row is not None and row.id > row_id else None

    def _new_row(self, now_s: float) -> SpooledFrame | None:
        """The newest row of this connection that was not tried yet."""
        for row_id in self._new.take_surplus():
            self._later[row_id] = now_s
        while (newest := self._new.newest) is not None:
            if not self._is_known(newest) and (row := self._spool.get(newest)) is not None:
                return row
            self._new.leave(newest)
        return None

    def _waiting(self, now_s: float) -> SpooledFrame | None:
        """The row of those that wait whose turn it is, if there is a slot for it."""
        if self._slots.full and self._slots.due(now_s) is None:
            return None
        return self._untried() or self._again(now_s) or self._dead_letter()

    def _untried(self) -> SpooledFrame | None:
        """The newest row of an earlier connection that was not tried on this one."""
        while self._more:
            row = self._spool.before(self._below)
            if row is None:
                self._more = False
            elif row.id in self._new or row.id in self._later or self._is_known(row.id):
                self._below = row.id
            else:
                return row
        return None

    def _is_known(self, row_id: int) -> bool:
        """Whether a row has had its try, or needs none."""
        return row_id in self._slots or row_id in self._kept or self._spool.is_rejected(row_id)

    def _again(self, now_s: float) -> SpooledFrame | None:
        """Of those that were tried or put off, with a slot or without, the one whose time came first."""
        while True:
            due = {**self._later, **self._slots.due_s}.items()
            row_id, due_s = min(due, key=lambda row: row[1], default=(0, float("inf")))
            if due_s > now_s:
                return None
            if (row := self._spool.get(row_id)) is not None:
                return row
            self._leave_queues(row_id)

    def _dead_letter(self) -> SpooledFrame | None:
        """A dead letter of an earlier start, if a receiver keeps frames."""
        while self._slots.confirmed and self._dead:
            if (row := self._spool.get(self._dead[-1])) is not None:
                return row
            self._dead.pop()  # it had to make room
        return None

    def _leave_queues(self, row_id: int) -> Attempt | None:
        """Take a row out of all queues; its last attempt, if it had a slot."""
        self._new.leave(row_id)
        self._later.pop(row_id, None)
        return self._slots.leave(row_id)

    def _reject(self, row_id: int, reason: str) -> None:
        self._leave_queues(row_id)
        self._rejection.forget(row_id)
        if row_id in self._dead:
            self._dead.remove(row_id)
        if self._spool.is_rejected(row_id):
            return
        self._spool.reject(row_id, reason)
        self._rejected.append(PromiseRejected(row_id, reason))
        log.error("promised frame %d of the spool is a dead letter now: %s", row_id, reason)
        for key in [key for key, known in self._rows.items() if known == row_id]:
            self._handles.refuse(key, f"it is a dead letter: {reason}")
