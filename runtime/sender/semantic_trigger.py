"""Semantic trigger of a sender: decides by content which frames go, at what share of the link, and which are promised.

latent -> SemanticHead -> embedding -> novelty, best query -> TriggerDecision -> sender
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgesem.bundle.bundle import Bundle
from edgesem.codec.latent import Latent
from edgesem.errors import UsageError
from edgesem.semantics.embedding import Labels, Query, SemanticHead, Vector, best, from_bytes, to_bytes
from runtime.protocol.command import MAX_QUERIES
from runtime.sender.novelty import Novelty, NoveltyScore
from runtime.settings import WATCH_SCORE, TriggerSettings

log = logging.getLogger(__name__)

SEND_ON = ("all", "change")
_LEAST_SHARE = 0.4  # of the budget, for a frame that is neither new nor looked for
_FULL_NOVELTY = 2.0  # a novelty that deserves the whole budget
_INFINITE_NOVELTY = 99.0  # what is reported for it
_ABSENT = 0.9  # of the score at which what is looked for is there: below it is there no more
_PROMISE_EVERY_S = 10.0  # at most one promised frame in this time: the spool is for what counts


@dataclass(frozen=True)
class TriggerDecision:
    """What to do with a frame."""

    send: bool
    promise: bool
    share: float
    """Of the budget that the link offers, 0 to 1."""
    novelty: float
    """In thresholds: from 1 on it is new."""
    query: str
    """What it fits best of what is looked for; empty if nothing is."""
    score: float
    """How well, 0 to 1."""
    vector: Vector
    """The frame's embedding."""
    embedding: bytes
    """The same as side information of its packet."""


class SemanticTrigger:
    """Decides about each frame from its latent, with the bundle's semantic head.

    send_on: "all", or "change": then frames that show what the receiver knows already are not sent. queries: texts that
    are looked for, and vectors, as `look_for` takes them; a frame that shows one is new, gets the whole budget, and
    the first of them is promised; `watch_score`: from which score on (0 to 1) a frame shows it. Raises BundleError if
    the bundle has no head, UsageError for what cannot be looked for. `look` and `sent` are for the encoding thread;
    `delivered` and `look_for` may be called from another.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        send_on: str = "all",
        queries: Sequence[str] = (),
        vectors: Sequence[bytes] = (),
        watch_score: float = WATCH_SCORE,
        novelty: Novelty | None = None,
        threads: int = 1,
    ) -> None:
        if send_on not in SEND_ON:
            raise UsageError(f"send_on must be one of {', '.join(SEND_ON)}, got {send_on!r}")
        self.novelty = novelty or Novelty()
        self.queries: tuple[Query, ...] = ()
        self.on_seen: Callable[[str, str, bool], None] = lambda *_: None
        """Called with what a frame shows: `watch` and the query, or `change` and nothing; and whether that is new."""
        self.loud_novelty = _FULL_NOVELTY
        """From this novelty on, a change is worth telling of."""
        self._watch_score = watch_score
        self._send_on, self._head, self._labels = send_on, SemanticHead(bundle, threads), Labels.of(bundle)
        self._present = self._match_pending = self._changing = False
        self._promised_s = float("-inf")
        self._lock = threading.Lock()  # guards `novelty`
        self.look_for(queries, vectors)

    def look_for(self, queries: Sequence[str], vectors: Sequence[bytes] = ()) -> None:
        """Look for other things from now on; nothing if there are none.

        vectors: what a workstation's text encoder made of each text, as `to_bytes` packs it, or empty for those that a
        label names. UsageError, and all stays as it was, if a text names no label, or there are too many.
        """
        if len(queries) > MAX_QUERIES:
            raise UsageError(f"{len(queries)} things to look for, at most {MAX_QUERIES} can be")
        labels, made = self._labels, []
        for place, text in enumerate(queries):
            vector = vectors[place] if place < len(vectors) else b""
            made.append(labels.query_of(text, from_bytes(vector)) if vector else labels.label_query(text))
        self.queries = tuple(made)

    def look(self, latent: Latent, now_s: float, *, connected: bool = True) -> TriggerDecision:
        """What to do with a frame at `now_s`.

        A change that comes while there is no connection is promised, if only changes are sent, at most one in ten
        seconds: no later frame would show it.
        """
        vector = self._head.embed(latent)
        with self._lock:
            new = self.novelty.look(vector, now_s)
        query, score = best(self.queries, vector)
        appeared = score >= self._watch_score and not self._present
        self._present = bool(query) and score >= self._watch_score * (_ABSENT if self._present else 1.0)
        self._match_pending = self._present and (self._match_pending or appeared)
        missed = not connected and self._send_on == "change" and new.due and new.novelty >= 1
        promise = (self._match_pending or missed) and now_s - self._promised_s >= _PROMISE_EVERY_S
        if self._present and query is not None:
            self.on_seen("watch", query.text, appeared)
        if self._send_on == "change":
            self._look_for_change(new)
        worth = max(min(1.0, new.novelty / _FULL_NOVELTY), 1.0 if self._present else 0.0)
        return TriggerDecision(
            send=new.due or self._match_pending or self._send_on == "all",
            promise=promise,
            share=_LEAST_SHARE + (1 - _LEAST_SHARE) * worth,
            novelty=new.novelty if math.isfinite(new.novelty) else _INFINITE_NOVELTY,
            query=query.text if query else "",
            score=score,
            vector=vector,
            embedding=to_bytes(vector),
        )

    def _look_for_change(self, new: NoveltyScore) -> None:
        """Tell of a change that is loud, and as long as it goes on; not before it is known what is usual here."""
        if not 1 <= new.novelty < math.inf or not self.novelty.has_learned:
            self._changing = False
            return
        begins = new.novelty >= self.loud_novelty and not self._changing
        self._changing = self._changing or begins
        if self._changing:
            self.on_seen("change", "", begins)

    def sent(self, frame: int, decision: TriggerDecision, now_s: float) -> None:
        """A frame is on its way."""
        self._match_pending = False
        if decision.promise:
            self._promised_s = now_s
        with self._lock:
            self.novelty.sent(frame, decision.vector, now_s)

    def delivered(self, frame: int) -> None:
        """A receiver has the frame's base layer."""
        with self._lock:
            self.novelty.delivered(frame)


def open_trigger(settings: TriggerSettings, bundle: Bundle, threads: int = 1) -> SemanticTrigger | None:
    """The trigger that the settings ask for; None if they ask for none.

    What is looked for is encoded here, once, where a text encoder is installed; a board goes by the bundle's labels.
    """
    if not settings.active:
        return None
    labels = Labels.of(bundle)
    vectors = [to_bytes(labels.query(text).vector) for text in settings.queries]
    return SemanticTrigger(
        bundle,
        send_on=settings.send_on,
        queries=settings.queries,
        vectors=vectors,
        watch_score=settings.score,
        novelty=Novelty(sensitivity=settings.sensitivity, heartbeat_s=settings.heartbeat_s),
        threads=threads,
    )
