"""A rate-limited log: strangers' mistakes cost few lines, however many they are."""

from __future__ import annotations

import logging
import time


class RateLimitedLog:
    """Log lines about strangers' mistakes, at most one each `every_s`, so that a flood of them fills no disk."""

    def __init__(self, log: logging.Logger, every_s: float = 10.0) -> None:
        self._log, self._every_s = log, every_s
        self._next_s, self._untold = 0.0, 0

    def warn(self, message: str, *details: object) -> None:
        """Log the message, or count it for the next one that is logged."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._untold += 1
            return
        more = f" (and {self._untold} like it before)" if self._untold else ""
        self._next_s, self._untold = now_s + self._every_s, 0
        self._log.warning(message + "%s", *details, more)
