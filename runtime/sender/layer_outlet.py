"""Outlet of ordinary frames: the message that is next of the newest frame, one layer of it or several."""

from __future__ import annotations

from edgesem.packet.packet import Packet
from runtime.sender.message_format import MessageFormat
from runtime.sender.outgoing import Outgoing
from runtime.sender.packetizer import after, next_part


class LayerOutlet:
    """Outlet of one stream's newest frame: the next one takes the place of what still waits of it. Not thread-safe: the
    publisher's lock guards it."""

    def __init__(self, message_format: MessageFormat) -> None:
        self.separate_until_s = float("-inf")
        """Until then each layer goes in a message of its own, however fast our link: some receiver's is slower."""
        self._format = message_format
        self._rest: Packet | None = None
        """The layers of the newest frame that are still to go."""

    @property
    def waits(self) -> bool:
        """Whether there is something to go."""
        return self._rest is not None

    @property
    def base_waits(self) -> bool:
        """Whether the frame has not even begun to go."""
        return self._rest is not None and self._rest.first_layer == 0

    def put(self, packet: Packet | None) -> Packet | None:
        """Have a frame, or none, in place of what waits; returns that."""
        rest, self._rest = self._rest, packet
        return rest

    def whole_bytes(self, now_s: float, *, rate_bps: float) -> int:
        """A frame of no more, with all that MQTT adds, goes in one message because it is small; 0: none does.

        Fewer do while the rate is not known (0): more messages tell more of it.
        """
        if now_s < self.separate_until_s:
            return 0
        return self._format.whole_bytes if rate_bps > 0 else self._format.whole_bytes // 2

    def next(self, now_s: float, *, rate_bps: float) -> Outgoing | None:
        """The next message, or None."""
        if (rest := self._rest) is None:
            return None
        around_bytes = self._format.around_bytes
        part = rest
        whole = self.base_waits and around_bytes + rest.size_bytes <= self.whole_bytes(now_s, rate_bps=rate_bps)
        if not whole:
            separate = now_s < self.separate_until_s
            part = next_part(rest, rate_bps=rate_bps, around_bytes=around_bytes, separate=separate)
        return Outgoing(part, around_bytes + part.size_bytes, rest=rest)

    def gone(self, message: Outgoing) -> bool:
        """A message was published, or is dropped; False if a newer frame is there, or it is none of an ordinary one."""
        if message.rest is None or self._rest is not message.rest:
            return False
        self._rest = after(message.rest, len(message.packet.chunks))
        return True
