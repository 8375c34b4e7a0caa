"""Account of a sender's published messages, from their publication to the broker's and the receivers' confirmation."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms, elapsed_s

MessageKey = tuple[int, int, int]
"""Epoch, frame, and the first layer in the message; of a piece of a promised frame its number."""

_REMEMBERED = 1024
_LONGEST_PATIENCE_S = 60.0


class InFlightMessage(NamedTuple):
    """A published message that the broker has not confirmed."""

    size_bytes: int
    sent_s: float


def message_key(packet: Packet, piece: int = 0) -> MessageKey:
    """How a message is known: that of a packet, or of a piece of a promised one."""
    return packet.epoch, packet.frame, packet.first_layer + piece


class InFlight:
    """Table of the messages that were published and are not confirmed, and a memory of those published lately.

    Two confirmations are told apart: the broker's (PUBACK), after which a message is no longer in flight, and the
    receiver's (ack topic). `epoch` is the sender's. Times are of the sender's monotonic clock. Not
    thread-safe: the publisher's lock guards it.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.unacknowledged: set[MessageKey] = set()
        """What no receiver has acknowledged, of what was published lately."""
        self._messages: dict[MessageKey, InFlightMessage] = {}
        self._confirmed_s = 0.0
        """When the broker last confirmed something."""
        self._lately: OrderedDict[MessageKey, tuple[int, int]] = OrderedDict()
        """Capture time (ms) and number of layers of what was published lately."""
        self._newest_frame = 0
        self._newest_ms: int | None = None

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def age_s(self) -> float | None:
        """Seconds since the capture of the newest frame that a receiver has; None before the first."""
        return None if self._newest_ms is None else max(0.0, elapsed_s(self._newest_ms, clock_ms()))

    def has_frame(self, epoch: int, frame: int) -> bool:
        """Whether a message of a frame is in flight."""
        return any(key[:2] == (epoch, frame) for key in self._messages)

    def begin_epoch(self, epoch: int) -> None:
        """The frames are numbered anew, in another epoch."""
        self.epoch, self._newest_frame = epoch, 0

    def begin(self, now_s: float) -> None:
        """A new connection: whatever was in flight is gone with the old one."""
        self._messages.clear()
        self._confirmed_s = now_s

    def add(self, packet: Packet, size_bytes: int, now_s: float, *, piece: int = 0) -> None:
        """A message is about to be published. Call it before: its acknowledgement may be faster than the return.

        piece: its number, where the message is a piece of the packet. Only the packet is acknowledged.
        """
        key = message_key(packet, piece)
        self._messages[key] = InFlightMessage(size_bytes, now_s)
        if piece:
            return
        if len(self.unacknowledged) >= _REMEMBERED:
            self.unacknowledged.clear()
        self.unacknowledged.add(key)
        self._lately[key] = packet.time_ms, len(packet.chunks)
        if len(self._lately) > _REMEMBERED:
            self._lately.popitem(last=False)

    def give_up(self, key: MessageKey) -> bool:
        """A message was not published after all; False if it is not in flight any more."""
        if self._messages.pop(key, None) is None:
            return False
        self.unacknowledged.discard(key)
        return True

    def confirm(self, key: MessageKey, now_s: float) -> InFlightMessage | None:
        """The broker has a message; None if it is not in flight, or not any more."""
        message = self._messages.pop(key, None)
        if message is not None:
            self._confirmed_s = now_s
        return message

    def acknowledge(self, ack: Ack) -> tuple[int, int] | None:
        """A receiver has a message: its capture time (ms) and number of layers; None if it is not remembered."""
        key = (ack.epoch, ack.frame, ack.layer)
        self.unacknowledged.discard(key)
        known = self._lately.get(key)
        # By number, because the clock may have been set back; a promised frame of an earlier start is old.
        if known is not None and ack.epoch == self.epoch and ack.frame >= self._newest_frame:
            self._newest_frame, self._newest_ms = ack.frame, known[0]
        return known

    def progress(self, now_s: float) -> None:
        """Bytes of what is in flight have come through, as the kernel knows: that is a sign of life."""
        self._confirmed_s = now_s

    def stuck(self, now_s: float, *, ack_timeout_s: float, rate_bps: float) -> str:
        """Why the connection must be made anew: messages are in flight and nothing is confirmed any more; or "".

        After a reason was returned, the next one comes after the same time again.
        """
        if not self._messages:
            return ""
        since_s = max(self._confirmed_s, min(message.sent_s for message in self._messages.values()))
        # A large message on a slow link takes its time.
        size_bytes = sum(message.size_bytes for message in self._messages.values())
        patience_s = ack_timeout_s + (min(_LONGEST_PATIENCE_S, 4 * 8 * size_bytes / rate_bps) if rate_bps else 0)
        if now_s - since_s < patience_s:
            return ""
        self._confirmed_s = now_s
        return f"nothing was confirmed for {patience_s:.0f} s"
