"""Which of the received frames are drawn: those that show what somebody asked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import Query, best, from_bytes

log = logging.getLogger(__name__)

LEAST_SCORE = 0.9  # of all pictures at large, one in ten fits so well


class SemanticFilter:
    """Judges packets by the embedding that they carry. One without an embedding is wanted: nothing is known of it."""

    def __init__(self, queries: Sequence[Query], least_score: float = LEAST_SCORE) -> None:
        self.passed = self.left = self.unknown = 0
        self._queries, self._least, self._lock = tuple(queries), least_score, threading.Lock()

    def wants(self, packet: Packet) -> bool:
        """Whether this frame is to be drawn."""
        try:
            score = (
                best(self._queries, from_bytes(packet.side_info.embedding))[1] if packet.side_info.embedding else None
            )
        except PacketError:
            score = None
        wanted = score is None or score >= self._least
        with self._lock:
            if score is None:
                if not self.unknown:
                    log.warning("packets come without an embedding, so all of them are drawn: see edgesem send --watch")
                self.unknown += 1
            elif wanted:
                self.passed += 1
            else:
                self.left += 1
        return wanted

    def figures(self) -> dict[str, int]:
        """How many were drawn, were left, and said nothing of what they mean."""
        return {"passed": self.passed, "left": self.left, "unknown": self.unknown}
