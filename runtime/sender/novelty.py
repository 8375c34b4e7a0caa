"""Novelty of frames: the semantic distance of each from the last frame that a receiver has, against what is usual."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from edgesem.semantics.embedding import Vector, similarity

_MOST_IN_FLIGHT = 64
_WINDOW = 100  # frames whose changes say what is usual here
_FEW, _ENOUGH = 10, 30  # are too few to say so; say so well
_FIRST_THRESHOLD = 0.01
_USUAL, _TIMES_MEDIAN = 0.95, 5.0
_MARGIN = 1.1
_LEAST_THRESHOLD = 1e-3


@dataclass(frozen=True)
class NoveltyScore:
    """How new a frame is."""

    novelty: float
    """Its distance from what the receiver knows, in thresholds: from 1 on it is new. Infinite if it knows nothing."""
    due: bool
    """Whether it should be sent now."""


@dataclass
class Novelty:
    """Detector of new frames, by their embeddings; it learns from each camera what is usual before it.

    Distance is 1 less the cosine. A frame is new if it is clearly further from the last one delivered than 95 % of the
    lately seen frames were from the one before them, and than 5 times their median, the noise of a quiet scene.
    From then on frames are new until one stays below `low` of that (hysteresis). What is on its way since less than
    `patience_s` counts as delivered: a change that was just sent is not new, unless its message is lost. After
    `heartbeat_s` without a frame any frame is due. A `sensitivity` of 2 halves the threshold.

    All times are monotonic seconds given by the caller. Not thread-safe.
    """

    sensitivity: float = 1.0
    low: float = 0.9
    heartbeat_s: float = 30.0
    patience_s: float = 3.0
    _delivered: Vector | None = field(default=None, repr=False)
    _in_flight: OrderedDict[int, tuple[Vector, float]] = field(default_factory=OrderedDict, repr=False)
    _changes: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW), repr=False)
    _before: Vector | None = field(default=None, repr=False)
    _sent_s: float = field(default=float("-inf"), repr=False)
    _moving: bool = field(default=False, repr=False)

    def look(self, embedding: Vector, now_s: float) -> NoveltyScore:
        """How new the newest frame is, whose embedding this is. Call it once for each frame."""
        if self._before is not None:
            self._changes.append(1 - similarity(self._before, embedding))
        self._before = embedding
        known = [before for before, sent_s in self._in_flight.values() if now_s - sent_s < self.patience_s]
        if self._delivered is not None:
            known.append(self._delivered)
        novelty = min((1 - similarity(one, embedding) for one in known), default=float("inf")) / self.threshold
        self._moving = novelty >= (self.low if self._moving else 1.0)
        return NoveltyScore(novelty, self._moving or now_s - self._sent_s >= self.heartbeat_s)

    @property
    def has_learned(self) -> bool:
        """Whether it has seen enough frames to know what is usual before its camera."""
        return len(self._changes) >= _ENOUGH

    @property
    def threshold(self) -> float:
        """The distance from which on a frame is new here."""
        if len(self._changes) < _FEW:
            return _FIRST_THRESHOLD / self.sensitivity
        median, usual = np.quantile(self._changes, (0.5, _USUAL))
        return _MARGIN * float(max(usual, _TIMES_MEDIAN * median, _LEAST_THRESHOLD)) / self.sensitivity

    def sent(self, frame: int, embedding: Vector, now_s: float) -> None:
        """A frame is on its way."""
        self._in_flight[frame] = (embedding, now_s)
        self._sent_s = now_s
        while len(self._in_flight) > _MOST_IN_FLIGHT:
            self._in_flight.popitem(last=False)

    def delivered(self, frame: int) -> None:
        """A receiver has a frame; those before it count no more."""
        found = self._in_flight.pop(frame, None)
        if found is None:
            return
        self._delivered = found[0]
        for earlier in [number for number in self._in_flight if number < frame]:
            del self._in_flight[earlier]
