"""Announcer of a sender: says its birth on each connection, now and then, when asked, and after somebody else's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edgesem.errors import EdgesemError, LinkError
from edgesem.packet.keys import Identity
from runtime.mqtt.connection import Connection
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.birth import Birth
from runtime.protocol.topics import Topics

log = logging.getLogger(__name__)

EVERY_S = 600.0
UNRETAINED_S = 60.0
"""Where the broker keeps no birth for receivers that come later."""
_AFTER_OTHERS_S = 5.0
_LOOK_S, _LOG_S = 2.0, 60.0
_CLOCK_JUMP_S = 2.0


class Announcer:
    """Says a sender's birth message, retained. As a context manager it has a thread.

    The broker hands out the retained birth to receivers that start later. Somebody else may put another one there, or
    none: so the sender subscribes to its own topic (`heard`), and says its own again. It is also said again after the
    clock was set, when a receiver lacks it (`asked`), and each `EVERY_S`, or `unretained_s` for a broker that keeps
    none. `make()` is the birth as of now. Thread-safe.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        make: Callable[[], Birth],
        identity: Identity,
        key: bytes | None,
        connection: Callable[[], Connection],
        unretained_s: float = UNRETAINED_S,
    ) -> None:
        self._topics, self._make, self._identity, self._key = topics, make, identity, key
        self._connection, self._every_s, self._unretained_s = connection, EVERY_S, unretained_s
        self._lock = threading.Lock()
        self._said: bytes = b""
        self._said_s = float("-inf")
        self._again_s = float("inf")
        """When to say it next, besides each `EVERY_S`."""
        self._offset_s = time.time() - time.monotonic()
        self._stop = threading.Event()
        self._limited_log = RateLimitedLog(log, _LOG_S)
        self._thread = threading.Thread(target=self._run, name="sender.announcer", daemon=True)

    def __enter__(self) -> Announcer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def say(self) -> None:
        """Publish the birth now. Raises LinkError without a connection."""
        with self._lock:
            data = self._make().to_bytes(self._identity, base=self._topics.base, key=self._key)
            self._said, self._said_s, self._again_s = data, time.monotonic(), float("inf")
        try:
            self._connection().publish(self._topics.birth, data, retain=True)
        except LinkError:
            self.asked()
            raise

    def heard(self, payload: bytes) -> None:
        """Take what came on our own birth topic; for the network thread."""
        with self._lock:
            if payload == self._said:
                return
        self.asked()
        try:
            other = Birth.from_bytes(payload, base=self._topics.base)
        except EdgesemError:
            self._limited_log.warn("somebody has cleared or spoilt the birth on %s: saying ours", self._topics.birth)
            return
        mine = self._make()
        if other.salt == mine.salt or (other.public_key == self._identity.public_key and other.start < mine.start):
            return  # of this start, or of an earlier one, which the broker has kept
        self._limited_log.warn(
            "another sender uses the name %s too: give each device its own name", self._topics.base.partition("/v1/")[2]
        )

    def asked(self) -> None:
        """A receiver has no birth of ours: say it soon, but not each moment."""
        with self._lock:
            self._again_s = min(self._again_s, max(time.monotonic(), self._said_s + _AFTER_OTHERS_S))

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            now_s = time.monotonic()
            offset_s = time.time() - now_s
            jumped = abs(offset_s - self._offset_s) > _CLOCK_JUMP_S
            connection = self._connection()
            every_s = self._every_s if connection.retains else self._unretained_s
            if jumped or now_s >= min(self._again_s, self._said_s + every_s):
                self._offset_s = offset_s
                if connection.connected:
                    try:
                        self.say()
                    except LinkError:
                        log.debug("no birth: the connection is lost")
