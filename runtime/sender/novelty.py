"""Whether a frame is news: what it means against what the last frame meant that a receiver has."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from edgesem.semantics.embedding import Vector, similarity

_MOST_UNDER_WAY = 64
_WINDOW = 100  # frames whose changes say what is usual here
_FEW = 10  # are too few to say so
_FIRST_THRESHOLD = 0.01
_USUAL, _TIMES_MEDIAN = 0.95, 5.0
_MARGIN = 1.1
_LEAST_THRESHOLD = 1e-3


@dataclass(frozen=True)
class News:
    """What there is to say of a frame."""

    novelty: float
    """Its distance from what the receiver knows, in thresholds: from 1 on it is news. Infinite if it knows nothing."""
    due: bool
    """Whether it should be sent now."""


@dataclass
class Novelty:
    """Compares meanings, and learns from each camera what is usual before it.

    Distance is 1 less the cosine. A frame is news if it is clearly further from the last one delivered than 95 % of the
    lately seen frames were from the one before them, and than 5 times their median, the noise of a quiet scene.
    From then on frames are news until one stays below `low` of that (hysteresis). What is on its way since less than
    `patience_s` counts as delivered: a change that was just sent is no news, unless its message is lost. After
    `heartbeat_s` without a frame any frame is due. A `sensitivity` of 2 halves the threshold.

    All times are `time.monotonic()` seconds given by the caller. Not thread-safe.
    """

    sensitivity: float = 1.0
    low: float = 0.9
    heartbeat_s: float = 30.0
    patience_s: float = 3.0
    _delivered: Vector | None = field(default=None, repr=False)
    _under_way: OrderedDict[int, tuple[Vector, float]] = field(default_factory=OrderedDict, repr=False)
    _changes: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW), repr=False)
    _before: Vector | None = field(default=None, repr=False)
    _sent_s: float = field(default=float("-inf"), repr=False)
    _moving: bool = field(default=False, repr=False)

    def look(self, meaning: Vector, now_s: float) -> News:
        """What the newest frame, whose embedding this is, has to say; each frame is shown once."""
        if self._before is not None:
            self._changes.append(1 - similarity(self._before, meaning))
        self._before = meaning
        known = [before for before, sent_s in self._under_way.values() if now_s - sent_s < self.patience_s]
        if self._delivered is not None:
            known.append(self._delivered)
        novelty = min((1 - similarity(one, meaning) for one in known), default=float("inf")) / self.threshold
        self._moving = novelty >= (self.low if self._moving else 1.0)
        return News(novelty, self._moving or now_s - self._sent_s >= self.heartbeat_s)

    @property
    def threshold(self) -> float:
        """The distance from which on a frame is news here."""
        if len(self._changes) < _FEW:
            return _FIRST_THRESHOLD / self.sensitivity
        median, usual = np.quantile(self._changes, (0.5, _USUAL))
        return _MARGIN * float(max(usual, _TIMES_MEDIAN * median, _LEAST_THRESHOLD)) / self.sensitivity

    def sent(self, frame: int, meaning: Vector, now_s: float) -> None:
        """A frame is on its way."""
        self._under_way[frame] = (meaning, now_s)
        self._sent_s = now_s
        while len(self._under_way) > _MOST_UNDER_WAY:
            self._under_way.popitem(last=False)

    def delivered(self, frame: int) -> None:
        """A receiver has a frame; those before it count no more."""
        found = self._under_way.pop(frame, None)
        if found is None:
            return
        self._delivered = found[0]
        for earlier in [number for number in self._under_way if number < frame]:
            del self._under_way[earlier]
