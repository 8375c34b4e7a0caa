"""Watch on a camera: for how long it has given no frame, and whether that is longer than usual."""

from __future__ import annotations

import time
from collections.abc import Callable

_USUAL_S = 10.0
"""After so long without a frame, a camera is said to be silent: most give one in much less than a second."""
_GAPS = 2.0
"""Of one that gives a frame now and then, so many times the last gap pass first."""
_LONGEST_S = 30.0
"""After so long without a frame, any camera is said to be silent, and `hangs`."""
_MOST_SILENT_S = 86400  # as state messages have it at most


class CameraWatch:
    """When a camera has given its last frame. `begun` and `came` are for the capture thread, the rest for any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s, self._gap_s = float("inf"), 0.0
        """When the last frame came, or the camera was begun; and the time before it."""
        self.seen = False
        """Whether any frame has come."""

    def begun(self) -> None:
        """The camera is opened now: what was before does not count."""
        self._last_s = self._clock()

    def came(self) -> None:
        """A frame has come."""
        now_s = self._clock()
        self._gap_s, self._last_s, self.seen = now_s - self._last_s, now_s, True

    @property
    def hangs(self) -> bool:
        """Whether no frame has come for half a minute: then the sender is better started again."""
        return self._clock() - self._last_s > _LONGEST_S

    @property
    def silent_s(self) -> int:
        """For how many seconds no frame has come, if that is longer than usual, up to a day; else 0."""
        passed_s = self._clock() - self._last_s
        least_s = min(_LONGEST_S, max(_USUAL_S, _GAPS * self._gap_s))
        return min(int(passed_s), _MOST_SILENT_S) if passed_s > least_s else 0
