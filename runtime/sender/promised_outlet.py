"""Outlet of promised frames: the message that is next of them, a whole frame or a piece of one, and what became of it.

On a thin link a whole frame would be one message of minutes: live frames would wait, and the connection would break
before it is through. There it goes in pieces of a few seconds each, in turn with newer promised frames. A new
connection goes on with the first piece that the broker has not confirmed.
"""

from __future__ import annotations

from runtime.protocol.ack import Ack
from runtime.protocol.piece import Piece
from runtime.sender.events import PromiseKept, PromiseRejected
from runtime.sender.in_flight import InFlight, MessageKey
from runtime.sender.message_format import MessageFormat
from runtime.sender.outgoing import Outgoing
from runtime.sender.redelivery import DueFrame, Redelivery
from runtime.sender.size_limits import SizeLimits

_MOST_CUTS = 2
"""Frames that go in pieces at a time: a receiver has room for no more."""


class _Cut:
    """A promised frame that goes in pieces."""

    def __init__(self, due: DueFrame, data: bytes) -> None:
        self.due, self.data = due, data
        self.next, self.number = 0, 0
        """Where the next piece begins, and its number."""
        self._ends: dict[int, int] = {}
        """Where the pieces end that the broker has not confirmed, by their number."""
        self._confirmed = 0
        """How many bytes it has, from the beginning on."""

    @property
    def is_sent(self) -> bool:
        """Whether all of it was sent on this connection."""
        return self.next == len(self.data)

    def is_of(self, epoch: int, frame: int) -> bool:
        """Whether it is this frame."""
        return (self.due.packet.epoch, self.due.packet.frame) == (epoch, frame)

    def piece(self, size_bytes: int) -> Piece:
        """The next piece."""
        packet = self.due.packet
        return Piece.cut(self.data, epoch=packet.epoch, frame=packet.frame, offset=self.next, size_bytes=size_bytes)

    def sent(self, piece: Piece) -> None:
        """It is being published."""
        self._ends[self.number] = self.next = piece.end
        self.number += 1

    def failed(self, piece: Piece) -> None:
        """It could not leave."""
        self.next = min(self.next, piece.offset)

    def confirmed(self, number: int) -> None:
        """The broker has a piece, and those before it."""
        self._confirmed = max(self._confirmed, self._ends.pop(number, 0))

    def reconnected(self) -> None:
        """Go on where the old connection has ended."""
        self.next = self._confirmed
        self._ends.clear()


class PromisedOutlet:
    """Outlet of one stream's promised frames. Not thread-safe: the publisher's lock guards it.

    A frame that has begun in pieces holds up none that was promised after it: that goes in turn with the pieces.
    """

    def __init__(self, redelivery: Redelivery, message_format: MessageFormat, sizes: SizeLimits) -> None:
        self._redelivery, self._format, self._sizes = redelivery, message_format, sizes
        self._cuts: list[_Cut] = []
        """Frames that go in pieces, or went lately, in the order of their beginnings."""
        self._newer_has_turn = False
        """Whether the last message was a piece of the frame that has begun first."""

    @property
    def waits(self) -> bool:
        """Whether promised frames wait."""
        return self._redelivery.waiting > 0

    def reconnected(self, rtt_s: float | None) -> None:
        """There is a new connection."""
        self._redelivery.reconnected(rtt_s)
        for cut in self._cuts:
            cut.reconnected()

    def settle(self) -> list[PromiseKept | PromiseRejected]:
        """As that of the redelivery: without the lock, and not on the network thread."""
        return self._redelivery.settle()

    def next(self, now_s: float, in_flight: InFlight) -> Outgoing | None:
        """The message to send now, or None."""
        longest_bytes = self._sizes.promised_message_bytes()
        begun = self._begun
        due = self._due(begun, now_s, in_flight) if self._newer_has_turn or not begun else None
        if due is not None:
            size_bytes = self._format.around_bytes + due.packet.size_bytes
            if size_bytes <= longest_bytes:
                return Outgoing(due.packet, size_bytes, row_id=due.row_id)
            if len(begun) < _MOST_CUTS:
                begun.append(_Cut(due, self._format.payload(due.packet)))
                self._cuts = begun
        if not begun:
            return None
        cut = begun[-1 if self._newer_has_turn else 0]
        piece = cut.piece(max(1, int(longest_bytes) - self._format.around_piece_bytes))
        size_bytes = self._format.around_piece_bytes + len(piece.data)
        return Outgoing(cut.due.packet, size_bytes, row_id=cut.due.row_id, piece=piece, number=cut.number)

    def sent(self, message: Outgoing, now_s: float) -> None:
        """A message is being published."""
        if message.row_id is None:
            return
        begun = self._begun
        self._newer_has_turn = bool(begun) and begun[0].due.row_id == message.row_id
        if message.piece is not None and (cut := self._cut_of(message.key)) is not None:
            cut.sent(message.piece)
            self._redelivery.expect(message.row_id, message.packet)
        if message.is_last:
            self._redelivery.sent(message.row_id, now_s)

    def failed(self, message: Outgoing, now_s: float, *, again_s: float | None) -> None:
        """It could not be published; `again_s`: try again after so many seconds; None: the broker takes none such."""
        if message.row_id is None:
            return
        cut = self._cut_of(message.key)
        if again_s is None:
            self._end(cut)
            self._redelivery.refused(message.row_id, "it is larger than the broker takes", now_s)
        elif message.piece is not None and cut is not None:
            cut.failed(message.piece)
        else:
            self._redelivery.postpone(message.row_id, now_s, again_s)

    def confirmed(self, key: MessageKey) -> None:
        """The broker has a message."""
        if (cut := self._cut_of(key)) is not None:
            cut.confirmed(key[2])

    def refused(self, key: MessageKey, reason: str, now_s: float) -> None:
        """The broker refuses a message."""
        row_id = self._redelivery.row_of(*key[:2])
        if row_id is not None:
            self._end(self._cut_of(key))
            self._redelivery.refused(row_id, f"the broker refuses it: {reason}", now_s)

    def acknowledged(self, ack: Ack, now_s: float) -> None:
        """A receiver has acknowledged a message."""
        self._redelivery.acknowledged(ack, now_s)
        if ack.kept and self._redelivery.row_of(ack.epoch, ack.frame) is None:
            self._end(self._cut_of((ack.epoch, ack.frame, 0)))

    @property
    def _begun(self) -> list[_Cut]:
        """The frames of which pieces are still to go."""
        return [cut for cut in self._cuts if not cut.is_sent]

    def _cut_of(self, key: MessageKey) -> _Cut | None:
        """The frame of a message, if it goes in pieces."""
        return next((cut for cut in self._cuts if cut.is_of(*key[:2])), None)

    def _end(self, ended: _Cut | None) -> None:
        self._cuts = [cut for cut in self._cuts if cut is not ended]

    def _due(self, begun: list[_Cut], now_s: float, in_flight: InFlight) -> DueFrame | None:
        """The frame to begin now, newer than all that have begun; one that is still on its way is not sent again."""
        newest = max((cut.due.row_id for cut in begun), default=None)
        while True:
            due = self._redelivery.next(now_s) if newest is None else self._redelivery.newer(newest, now_s)
            if due is None or not in_flight.has_frame(due.packet.epoch, due.packet.frame):
                return due
            self._redelivery.postpone(due.row_id, now_s)
