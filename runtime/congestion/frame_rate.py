"""Frame rate adaptation: on a link too thin for both, fewer frames or coarser ones."""

from __future__ import annotations

SLOWEST = 4.0  # times the interval that was asked for
SHARP_Q = 110  # quality level, of 255, below which a sharp stream rather waits
_STEP = 1.25


class FrameRate:
    """How much longer than asked for the next frame may take, 1 to SLOWEST.

    A smooth stream keeps its frame rate and lets quality fall. A sharp one takes its time, and with it the bytes that
    come together meanwhile, until each frame has the quality level `sharp_q`.
    """

    def __init__(self, *, sharp: bool = False, sharp_q: int = SHARP_Q) -> None:
        self.factor = 1.0
        self._sharp, self._sharp_q = sharp, sharp_q

    def sent(self, q: int) -> None:
        """A frame has gone at this quality level."""
        if self._sharp:
            factor = self.factor * (_STEP if q < self._sharp_q else 1 / _STEP)
            self.factor = min(SLOWEST, max(1.0, factor))
