"""Age limit of what is kept: which time is too long ago, by a clock that may be wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_JUMP_S = 3600.0
_DOUBT_S = 86400.0


def _since_boot_s() -> float:
    """Seconds by a clock that nobody sets; where it can be had, one that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class AgeLimit:
    """Age limit of `max_age_s` seconds; 0: none. For one thread at a time.

    A clock that is set ahead makes everything too old at once, and what was deleted does not come back when it is set
    right. So nothing is too old for a day after the clock has jumped ahead by more than an hour, or after a start at
    which even the newest would be too old.
    """

    def __init__(
        self,
        max_age_s: float,
        *,
        clock_s: Callable[[], float] = time.time,
        since_boot_s: Callable[[], float] = _since_boot_s,
    ) -> None:
        self.max_age_s = max_age_s
        self._clock_s, self._since_boot_s = clock_s, since_boot_s
        self._boot_s: float | None = None
        """When the machine was started, in Unix seconds, by what the clock said at the last question."""
        self._doubted_until_s = float("-inf")

    def before_s(self, newest_s: float) -> float | None:
        """What is older than this Unix time is too old; None: nothing is. `newest_s` is the time of the newest kept."""
        if self.max_age_s <= 0:
            return None
        now_s, since_boot_s = self._clock_s(), self._since_boot_s()
        before_s, boot_s = now_s - self.max_age_s, now_s - since_boot_s
        is_doubtful = newest_s < before_s if self._boot_s is None else boot_s - self._boot_s > _JUMP_S
        self._boot_s = boot_s
        if is_doubtful:
            self._doubted_until_s = since_boot_s + _DOUBT_S
            log.warning("the clock may be wrong, it is far ahead of what was kept: nothing is deleted by age for a day")
        return None if since_boot_s < self._doubted_until_s else before_s
