"""Client of the MQTT library paho as we need it: patient on thin links, its callbacks cannot end its thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import paho.mqtt.client as paho

from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)


class PahoClient(paho.Client):
    """A client that takes progress of its own bytes for a sign of life.

    paho gives up if nothing comes in for two keep-alives. On a thin link a large message takes longer, and the answer
    to a ping stands behind it.
    """

    unacked_bytes: Callable[[], int | None] = staticmethod(lambda: None)
    _unacked_before: int = 0

    def _check_keepalive(self) -> None:
        unacked_bytes = self.unacked_bytes() or 0
        if unacked_bytes < self._unacked_before:
            with self._msgtime_mutex:
                self._last_bytes_received = time.monotonic()
        self._unacked_before = unacked_bytes
        super()._check_keepalive()


def fenced(callback: Callable[..., None]) -> Callable[..., None]:
    """A callback of paho's whose errors go to the log: a defect of ours, or bytes of a stranger, must not end its
    thread."""
    limited_log = RateLimitedLog(log)

    @wraps(callback)
    def fence(*given: Any) -> None:
        try:
            callback(*given)
        except Exception as error:
            limited_log.warn("a message of the broker could not be taken: %r", error)
            log.debug("a callback has failed", exc_info=True)

    return fence
