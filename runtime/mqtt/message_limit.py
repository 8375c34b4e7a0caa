"""Limit of a message's size, as brokers say it or show it by ending the connection."""

from __future__ import annotations

import logging
import time

from runtime.mqtt.session import Session

log = logging.getLogger(__name__)

_TOO_LARGE = ("Protocol error", "Packet too large", "protocol used by both")
"""How connections end when a message was too large: mosquitto's answer is none that paho knows."""
_LEAST_BYTES = 512
_BELIEVED_S = 3600.0
_SHORT_S = 30.0
"""A connection that ends sooner is suspicious."""
_DOUBTS = 4
"""So many such connections in a row, each with a smaller message confirmed and a larger one in flight, count for more
than what earlier ones have confirmed: the broker may be another, or have another limit now."""


class MessageLimit:
    """The largest message that the broker takes. Some cut the connection because of a large message without saying so:
    what was in flight, and larger than all that was confirmed, is then taken for too large for an hour."""

    def __init__(self) -> None:
        self._largest_confirmed_bytes = 0
        self._doubts = 0
        """Connections in a row that ended as if by a message that was too large. Those that had confirmed nothing do
        not count: that broker fails at all messages."""
        self._cut_at_bytes = 0
        """Size of the largest message in flight when the last connection ended unasked; 0 if none was."""
        self._learnt: tuple[int, float] | None = None
        """The largest message that the broker seems to take, and until when we believe that."""

    def of(self, session: Session | None) -> int | None:
        """The limit with topic, in bytes, on this connection; None if the broker has not said or shown one."""
        said = None if session is None else session.limit_bytes
        if self._learnt is None or time.monotonic() > self._learnt[1]:
            return said
        return self._learnt[0] if said is None else min(said, self._learnt[0])

    def learn(self, session: Session, place: object) -> None:
        """Look at how a connection to the broker `place` ended."""
        confirmed_bytes, size_bytes = session.unconfirmed.largest_confirmed_bytes, session.unconfirmed.largest_bytes
        short = time.monotonic() - session.began_s < _SHORT_S
        certain = any(words in session.trouble for words in _TOO_LARGE)
        seems_cut = size_bytes > confirmed_bytes and (certain or short) and not session.was_cut
        self._doubts = self._doubts + (confirmed_bytes > 0) if seems_cut else 0
        believed = certain or (self._doubts >= _DOUBTS and confirmed_bytes > 0)
        if not (seems_cut and believed):
            confirmed_bytes = max(self._largest_confirmed_bytes, confirmed_bytes)
        self._largest_confirmed_bytes = confirmed_bytes
        suspicious = seems_cut and size_bytes > confirmed_bytes
        if suspicious and (believed or self._cut_at_bytes):
            limit_bytes = max(self._largest_confirmed_bytes, min(size_bytes, self._cut_at_bytes or size_bytes) // 2)
            self._learnt = (max(_LEAST_BYTES, limit_bytes), time.monotonic() + _BELIEVED_S)
            log.warning(
                "%s ends the connection (%s) at a message of %d bytes: larger ones than %d bytes are not sent",
                place,
                session.trouble,
                size_bytes,
                self._learnt[0],
            )
        self._cut_at_bytes = size_bytes if suspicious else 0
