"""Semantic filter of a receiver: passes the frames that show what a query asks for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from edgesem.semantics.embedding import Query, best, from_bytes

log = logging.getLogger(__name__)

MIN_SCORE = 0.75  # of all pictures at large, one in four fits so well


class SemanticFilter:
    """Semantic filter by the embedding in each packet. Thread-safe.

    A packet passes if one of `queries` scores `min_score` or more (0 to 1, the share of pictures at large that fit less
    well). A packet without an embedding passes too: nothing is known of it.
    """

    def __init__(self, queries: Sequence[Query], min_score: float = MIN_SCORE) -> None:
        self.passed = self.left = self.unknown = 0
        self._queries, self._min_score, self._lock = tuple(queries), min_score, threading.Lock()

    def passes(self, packet: Packet) -> bool:
        """Whether this frame is to be shown; counts it."""
        try:
            score = (
                best(self._queries, from_bytes(packet.side_info.embedding))[1] if packet.side_info.embedding else None
            )
        except PacketError:
            score = None
        passed = score is None or score >= self._min_score
        with self._lock:
            if score is None:
                if not self.unknown:
                    log.warning("packets come without an embedding, so all of them are drawn: see edgesem send --watch")
                self.unknown += 1
            elif passed:
                self.passed += 1
            else:
                self.left += 1
        return passed

    def figures(self) -> dict[str, int]:
        """Numbers of frames that passed, that were left out, and that had no embedding."""
        return {"passed": self.passed, "left": self.left, "unknown": self.unknown}
