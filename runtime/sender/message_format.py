"""Message format of one stream: what is published of a packet, on which topic, and what MQTT and the seal add to it."""

from __future__ import annotations

from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS, Packet
from edgesem.packet.seal import TAG_BYTES, Seal
from runtime.protocol.piece import PIECE_BYTES, Piece
from runtime.protocol.topics import Topics

_WORTH = 4
"""Layers go in messages of their own where these cost less than one part in so many of the frame."""
_MQTT_BYTES = 8  # of a PUBLISH besides topic and payload: fixed header, topic length, packet id, properties


class MessageFormat:
    """Topics and payloads of a stream's packets; sealed if there is a `seal`. Thread-safe."""

    def __init__(self, topics: Topics, seal: Seal | None) -> None:
        self._topics, self._seal = topics, seal
        self.around_bytes = len(topics.layer(0)) + _MQTT_BYTES + (TAG_BYTES if seal is not None else 0)
        """What a message has besides its packet."""
        apart_bytes = (MAX_LAYERS - 1) * (self.around_bytes + HEADER_BYTES)
        self.around_frame_bytes = self.around_bytes + apart_bytes
        """What the messages of a frame have, all together, besides the packet that they were split from."""
        self.whole_bytes = _WORTH * apart_bytes
        """A frame of no more, with what a message has besides, goes in one: what its layers would cost in messages of
        their own is better spent on the picture."""
        self.around_piece_bytes = len(topics.piece) + _MQTT_BYTES + PIECE_BYTES + (TAG_BYTES if seal is not None else 0)
        """What a message with a piece has besides the bytes that it brings."""

    def topic(self, first_layer: int) -> str:
        """The topic of a message that begins with this layer."""
        return self._topics.layer(first_layer)

    def payload(self, packet: Packet) -> bytes:
        """What is published of a packet."""
        data = packet.to_bytes()
        return data if self._seal is None else self._seal.seal(data)

    def piece(self, piece: Piece) -> tuple[str, bytes]:
        """Topic and payload of a piece of what `payload` has made; signed, so that nobody can spoil the whole."""
        data, topic = piece.to_bytes(), self._topics.piece
        return topic, data if self._seal is None else self._seal.sign(data, topic)
