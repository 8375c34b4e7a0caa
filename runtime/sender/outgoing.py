"""Outgoing message of a publisher: layers of a frame, or a piece of a promised one, and the link that takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from edgesem.packet.packet import Packet
from runtime.protocol.piece import Piece
from runtime.sender.in_flight import MessageKey, message_key
from runtime.sender.message_format import MessageFormat


class Confirm(Protocol):
    """What is called once the broker has answered a message: without an argument if it has the message."""

    def __call__(self, refused: str = "") -> None:
        """`refused`: the broker's reason, if it does not take it."""


Publish = Callable[[str, bytes, Confirm], None]
"""`publish(topic, payload, confirm)`: hands a message to the link; `confirm` is called once the broker has answered."""


class Outgoing(NamedTuple):
    """A message that stands next to be published."""

    packet: Packet
    size_bytes: int
    """With all that MQTT adds."""
    rest: Packet | None = None
    """What waited of an ordinary frame when it was taken."""
    row_id: int | None = None
    """Of a promised frame, its place in the spool."""
    piece: Piece | None = None
    """What goes of it, if not all."""
    number: int = 0
    """Of the piece."""

    @property
    def key(self) -> MessageKey:
        """How it is known until it is confirmed."""
        return message_key(self.packet, self.number)

    @property
    def is_last(self) -> bool:
        """Whether the packet is sent with it."""
        return self.piece is None or self.piece.is_last

    def encode(self, message_format: MessageFormat) -> tuple[str, bytes]:
        """Its topic and payload."""
        if self.piece is not None:
            return message_format.piece(self.piece)
        return message_format.topic(self.packet.first_layer), message_format.payload(self.packet)
