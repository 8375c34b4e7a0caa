"""Rate-limited log: for warnings that others can cause at any rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class RateLimitedLog:
    """Logs at most one line of each kind each `every_s` seconds, so that a flood of bad messages fills no disk.

    The text of a message before its details are put in is its kind: a flood of one kind hides no other. For one thread;
    from several, a line more or less may be logged. `clock` gives monotonic seconds.
    """

    def __init__(self, log: logging.Logger, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._every_s, self._clock = log, every_s, clock
        self._kinds: dict[str, tuple[float, int]] = {}
        """When the next line of a kind may be logged, and how many were left out."""

    def warn(self, message: str, *details: object, exc_info: bool = False) -> None:
        """Log a warning, or count it for the next of its kind; with `exc_info`, and the present exception.

        `message` is a text of the program. What comes from outside belongs into `details`.
        """
        self._write(logging.WARNING, message, *details, exc_info=exc_info)

    def info(self, message: str, *details: object) -> None:
        """The same for what is no warning."""
        self._write(logging.INFO, message, *details)

    def _write(self, level: int, message: str, *details: object, exc_info: bool = False) -> None:
        now_s = self._clock()
        next_s, suppressed = self._kinds.get(message, (now_s, 0))
        if now_s < next_s:
            self._kinds[message] = next_s, suppressed + 1
            return
        self._kinds[message] = now_s + self._every_s, 0
        more = f" (and {suppressed} before that were not logged)" if suppressed else ""
        self._log.log(level, message + "%s", *details, more, exc_info=exc_info)
