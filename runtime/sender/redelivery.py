"""Redelivery of promised frames: which one to send next, again until a receiver says that it keeps it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from typing import NamedTuple

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.spool import Spool, SpooledFrame, SpoolFull

log = logging.getLogger(__name__)

_AT_ONCE, _AT_ONCE_CONFIRMED = 4, 32
_FIRST_RETRY_S, _LAST_RETRY_S = 10.0, 600.0
_SILENCE_S = 15.0
"""Where promised frames went unanswered for so long, there was no receiver; one that says something then is news."""
_MOST_REFUSALS, _MOST_UNKEPT = 3, 8
_FRESH_IN_A_ROW = 3
"""New frames that are tried before one that waits to be tried again has its turn."""


class _Attempt(NamedTuple):
    sent_s: float
    retry_s: float
    """How long to wait for a receiver's word before the next attempt."""


class DueFrame(NamedTuple):
    """A promised frame that is to be sent now."""

    row_id: int
    packet: Packet


class RejectedFrame(NamedTuple):
    """A promised frame that nobody takes: it stays on the disk, and is tried again at the next start."""

    row_id: int
    reason: str


class Redelivery:
    """Schedule of the frames of a spool. Call it under the sender's lock, all but `keep` and `settle`.

    A new frame is tried at once. Those that wait are tried newest first, only a few at a time while nobody has said
    `kept` on this connection, and again after longer and longer times: there may be no receiver that keeps anything.
    As soon as one has, more are sent at once. A word of any receiver after a silence begins it all anew.

    What the broker refuses goes to the end. After some refusals, or after more tries without a word while a receiver
    keeps others, a frame is rejected: set aside, so that it holds up no other.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        """Guards `_fresh`, which `keep` fills on another thread."""
        self._fresh: deque[int] = deque()
        """Rows added on this connection and not tried yet, newest last."""
        self._attempts: OrderedDict[int, _Attempt] = OrderedDict()
        self._later: OrderedDict[int, float] = OrderedDict()
        """Rows that are tried after all others, and not before this time."""
        self._rows: dict[tuple[int, int], int] = {}
        """Row of each frame that was sent on this connection, by epoch and frame."""
        self._handles: dict[tuple[int, int], DeliveryHandle] = {}
        self._below: int | None = None
        """The waiting frames from this row on have been tried; None: none has."""
        self._more = True
        """Whether there may be rows below."""
        self._fresh_in_a_row = 0
        self._confirmed = False
        """Whether a receiver has kept something on this connection."""
        self._unanswered_s = float("inf")
        """When the first was sent of those after which no receiver has said anything."""
        self._tried_s: dict[int, float] = {}
        self._kept: list[tuple[int, int]] = []
        self._settling: set[int] = set()
        """Rows that a receiver has kept and that are still on the disk."""
        self._refusals: dict[int, int] = {}
        self._unkept: dict[int, int] = {}
        """Tries of a row after which receivers have kept others."""
        self._kept_s = float("-inf")
        self._chosen: tuple[int, int] | None = None
        """The row that `next` gave, and the attempt that it takes the place of."""
        self._rejected: dict[int, str] = {}
        self._news: list[RejectedFrame] = []

    @property
    def waiting(self) -> int:
        """How many frames no receiver keeps yet, without the rejected ones."""
        return max(0, self._spool.waiting - len(self._rejected))

    @property
    def rejected(self) -> int:
        """How many frames are rejected."""
        return len(self._rejected)

    def reconnected(self) -> None:
        """A new connection: what was sent on the old one may be lost."""
        self._rows.clear()
        self._confirmed, self._unanswered_s = False, float("inf")
        self._begin_anew()

    def keep(self, packet: Packet, handle: DeliveryHandle | None = None) -> bool:
        """Put a frame on the disk; False, and a log line, if that has no room. The handle is told of each step."""
        key = (packet.epoch, packet.frame)
        if handle is not None:
            self._handles[key] = handle  # before it is on disk: once there, it may be sent and acknowledged at once
        try:
            row_id = self._spool.add(epoch=packet.epoch, frame=packet.frame, packet=packet.to_bytes())
        except SpoolFull as error:
            log.error("cannot promise frame %d: %s; sending it as an ordinary one", packet.frame, error)
            if handle is not None:
                del self._handles[key]
                handle.refuse(f"the spool has no room: {error}")
            return False
        if handle is not None:
            handle.mark_stored()
        with self._lock:
            self._fresh.append(row_id)
        return True

    def next(self, now_s: float) -> DueFrame | None:
        """The frame that is to be sent now, or None."""
        while (row := self._next_row(now_s)) is not None:
            try:
                packet = Packet.from_bytes(row.packet)
            except PacketError as error:  # the disk has changed it
                self._reject(row.id, f"it was damaged on the disk: {error}")
                continue
            self._rows[packet.epoch, packet.frame] = row.id
            return DueFrame(row.id, packet)
        return None

    def sent(self, row_id: int, now_s: float) -> None:
        """It is being published."""
        with self._lock:
            self._fresh_in_a_row = self._fresh_in_a_row + 1 if row_id in self._fresh else 0
        before = self._leave_queues(row_id)
        retry_s = _FIRST_RETRY_S if before is None else min(2 * before.retry_s, _LAST_RETRY_S)
        if self._chosen is not None and self._chosen[0] == row_id and self._chosen[1] in self._attempts:
            given_way = self._attempts.pop(self._chosen[1])
            self._later[self._chosen[1]] = now_s + _FIRST_RETRY_S
            retry_s = min(2 * given_way.retry_s, _LAST_RETRY_S)
        self._unanswered_s = min(self._unanswered_s, now_s)
        if row_id in self._tried_s and self._kept_s > self._tried_s[row_id]:
            self._unkept[row_id] = self._unkept.get(row_id, 0) + 1
            if self._unkept[row_id] > _MOST_UNKEPT:
                self._reject(row_id, f"no receiver has kept it after {_MOST_UNKEPT} tries, and others were kept")
                return
        self._tried_s[row_id] = now_s
        self._attempts[row_id] = _Attempt(now_s, retry_s)
        if len(self._attempts) > self._at_once:  # new frames are tried at once, whatever waits
            oldest, given_way = self._attempts.popitem(last=False)
            self._later[oldest] = now_s + _FIRST_RETRY_S
            self._attempts[row_id] = _Attempt(now_s, max(retry_s, given_way.retry_s))

    def postpone(self, row_id: int, now_s: float, after_s: float = _FIRST_RETRY_S) -> None:
        """It is still on its way, or could not leave: look at it again after a time."""
        before = self._leave_queues(row_id)
        retry_s = _FIRST_RETRY_S if before is None else before.retry_s
        self._attempts[row_id] = _Attempt(now_s + after_s - retry_s, retry_s)

    def refused(self, row_id: int, reason: str, now_s: float) -> None:
        """The broker does not take it: it goes to the end, or is rejected."""
        self._leave_queues(row_id)
        self._refusals[row_id] = self._refusals.get(row_id, 0) + 1
        if self._refusals[row_id] >= _MOST_REFUSALS:
            self._reject(row_id, reason)
        else:
            self._later[row_id] = now_s + _FIRST_RETRY_S

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
            self._refusals.pop(row_id, None)
            self._unkept.pop(row_id, None)
            self._tried_s.pop(row_id, None)
            self._rejected.pop(row_id, None)
            self._kept.append(key)
            self._settling.add(row_id)
            self._confirmed, self._kept_s = True, now_s
        if silent_s > _SILENCE_S and self.waiting:
            self._begin_anew(now_s)

    def settle(self) -> list[tuple[int, int]]:
        """Take from the disk what receivers have kept; returns their epochs and frames. Not on the network thread."""
        if not self._kept:
            return []
        kept, self._kept = self._kept, []
        settled = set(self._settling)
        self._spool.delivered(kept)
        self._settling -= settled
        for key in kept:
            handle = self._handles.pop(key, None)
            if handle is not None:
                handle.complete()
        return kept

    def take_rejected(self) -> list[RejectedFrame]:
        """The frames that were rejected since the last call."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """The sender ends: whoever waits for a frame waits no longer."""
        for handle in list(self._handles.values()):
            handle.close()

    @property
    def _at_once(self) -> int:
        return _AT_ONCE_CONFIRMED if self._confirmed else _AT_ONCE

    def _begin_anew(self, now_s: float | None = None) -> None:
        """Try all that waits from the newest on; but what was sent a moment ago has its time to be acknowledged."""
        lately = {} if now_s is None else {r: a for r, a in self._attempts.items() if now_s - a.sent_s < _FIRST_RETRY_S}
        self._attempts = OrderedDict((row, _Attempt(a.sent_s, _FIRST_RETRY_S)) for row, a in lately.items())
        self._later.clear()
        self._below, self._more = None, True
        with self._lock:
            self._fresh.clear()

    def _next_row(self, now_s: float) -> SpooledFrame | None:
        """The row that is to be tried now. Nothing changes before it is: there may be no room for it yet.

        A try whose time has come again gives way to a frame that waits behind it, so that none is in the way of others.
        """
        with self._lock:
            row_id = self._fresh[-1] if self._fresh else None
        self._chosen = None
        if self._fresh_in_a_row >= _FRESH_IN_A_ROW and (row := self._again(now_s) or self._due(now_s)) is not None:
            return row
        if row_id is not None:
            if not self._is_known(row_id) and (row := self._spool.get(row_id)) is not None:
                return row
            self._leave_fresh(row_id)
        due = self._due_id(now_s)
        if due is None and len(self._attempts) >= self._at_once:
            return None
        row = self._untried() or self._again(now_s)
        if row is not None:
            self._chosen = None if due is None else (row.id, due)
            return row
        if due is None:
            return None
        row = self._spool.get(due)
        if row is None:
            self._attempts.pop(due, None)
        return row

    def _due_id(self, now_s: float) -> int | None:
        """The row of the first try whose time has come again."""
        return next((row for row, last in self._attempts.items() if now_s >= last.sent_s + last.retry_s), None)

    def _due(self, now_s: float) -> SpooledFrame | None:
        due = self._due_id(now_s)
        return None if due is None else self._spool.get(due)

    def _untried(self) -> SpooledFrame | None:
        """The newest row that was not tried yet."""
        while self._more:
            row = self._spool.before(self._below)
            if row is None:
                self._more = False
            elif self._is_known(row.id) or row.id in self._later:
                self._below = row.id
            else:
                return row
        return None

    def _is_known(self, row_id: int) -> bool:
        """Whether a row has had its try, or needs none."""
        return row_id in self._attempts or row_id in self._rejected or row_id in self._settling

    def _again(self, now_s: float) -> SpooledFrame | None:
        """The first of those that are tried after all others."""
        while (row_id := next((row for row, from_s in self._later.items() if now_s >= from_s), None)) is not None:
            row = self._spool.get(row_id)
            if row is not None:
                return row
            del self._later[row_id]
        return None

    def _leave_queues(self, row_id: int) -> _Attempt | None:
        """Take a row out of all queues; its last attempt, if there was one."""
        self._leave_fresh(row_id)
        self._later.pop(row_id, None)
        return self._attempts.pop(row_id, None)

    def _leave_fresh(self, row_id: int) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._fresh.remove(row_id)

    def _reject(self, row_id: int, reason: str) -> None:
        self._leave_queues(row_id)
        if row_id not in self._rejected:
            self._rejected[row_id] = reason
            self._news.append(RejectedFrame(row_id, reason))
            log.error("promised frame %d of the spool is set aside until the next start: %s", row_id, reason)
