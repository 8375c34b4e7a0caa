"""Rate-limited log: for warnings that others can cause at any rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class RateLimitedLog:
    """Logs at most one line each `every_s` seconds, so that a flood of bad messages fills no disk.

    For one thread; from several, a line more or less may be logged. `clock` gives monotonic seconds.
    """

    def __init__(self, log: logging.Logger, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._every_s, self._clock = log, every_s, clock
        self._next_s, self._suppressed = float("-inf"), 0

    def warn(self, message: str, *details: object, exc_info: bool = False) -> None:
        """Log a warning, or count it for the next one that is logged; with `exc_info`, and the present exception."""
        self._write(logging.WARNING, message, *details, exc_info=exc_info)

    def info(self, message: str, *details: object) -> None:
        """The same for what is no warning."""
        self._write(logging.INFO, message, *details)

    def _write(self, level: int, message: str, *details: object, exc_info: bool = False) -> None:
        now_s = self._clock()
        if now_s < self._next_s:
            self._suppressed += 1
            return
        more = f" (and {self._suppressed} warnings before that were not logged)" if self._suppressed else ""
        self._next_s, self._suppressed = now_s + self._every_s, 0
        self._log.log(level, message + "%s", *details, more, exc_info=exc_info)
