"""Viewing: who watches which stream at this receiver, and what the senders on demand are told of it.

A sender on demand sends thumbnails until a receiver says that somebody watches (`edgesem send --live on-demand`). It is
told by a lease of some seconds, again and again: a receiver that dies keeps no camera awake.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgesem.errors import EdgesemError
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.command import Command

if TYPE_CHECKING:
    from runtime.receiver.stream import Stream

log = logging.getLogger(__name__)

VIEWS = ("page", "always", "never")
LOOK_S = 5.0
"""Somebody who has looked watches for so long: a page says each second what it shows."""
LEASE_S, RENEW_S = 25, 10.0
"""A sender is told each `RENEW_S` that somebody watches for `LEASE_S` more: two may be lost on the way."""
_LOOK_AGAIN_S = 0.5


class Viewing:
    """Viewers of a receiver's streams. Thread-safe.

    `streams()` gives the streams that are heard, `command(stream, command)` asks one's sender; what that raises is
    logged. `mode`, one of `VIEWS`: page, who looks counts; always, this receiver itself watches all streams, for
    instance to keep them; never, nobody counts. Until somebody watches nothing is done: the thread begins then, and
    needs `close`.
    """

    def __init__(
        self,
        streams: Callable[[], Sequence[Stream]],
        command: Callable[[Stream, Command], None],
        *,
        mode: str = VIEWS[0],
    ) -> None:
        self._mode = mode
        self._streams, self._command = streams, command
        self._viewer = 1 + secrets.randbelow(2**32 - 1)
        self._changed = threading.Condition()
        self._until_s: dict[str, float] = {}
        """Until when somebody watches, who says so now and then."""
        self._held: Counter[str] = Counter()
        """How many watch until they leave."""
        self._told: dict[str, tuple[float, int]] = {}
        """When each stream's sender was told last that somebody watches, and which start of it that was."""
        self._is_new = False
        """Somebody watches since the senders were told."""
        self._thread: threading.Thread | None = None
        self._closed = False
        self._limited_log = RateLimitedLog(log)
        if mode == "always":
            self._wake()

    def look(self, name: str, for_s: float = LOOK_S) -> None:
        """Somebody watches this stream for so many seconds from now on."""
        with self._changed:
            until_s = time.monotonic() + for_s
            new = not self._is_watched(name)
            self._until_s[name] = max(until_s, self._until_s.get(name, until_s))
        if new:
            self._wake()

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Somebody watches this stream as long as the context lasts."""
        with self._changed:
            new = not self._is_watched(name)
            self._held[name] += 1
        if new:
            self._wake()
        try:
            yield
        finally:
            with self._changed:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

    def is_watched(self, name: str) -> bool:
        """Whether somebody watches this stream here."""
        with self._changed:
            return self._is_watched(name)

    def is_looked_at(self, name: str) -> bool:
        """The same, but for `never`: who looks is shown pictures then too, although no sender is told."""
        with self._changed:
            return not self._closed and (self._mode == "always" or self._looks(name))

    def close(self) -> None:
        """Nobody watches any more, which is said while there still is a connection."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _is_watched(self, name: str) -> bool:
        return not self._closed and (self._mode == "always" or (self._mode == "page" and self._looks(name)))

    def _looks(self, name: str) -> bool:
        return name in self._held or self._until_s.get(name, 0.0) > time.monotonic()

    def _wake(self) -> None:
        """Have the thread look now."""
        with self._changed:
            if self._thread is None and not self._closed and self._mode != "never":
                self._thread = threading.Thread(target=self._run, name="viewing", daemon=True)
                self._thread.start()
            self._is_new = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_new = False
            self._tell()
            with self._changed:
                if self._closed:
                    break
                if self._is_new:
                    continue
                now_s = time.monotonic()
                for name in [name for name, until_s in self._until_s.items() if until_s <= now_s]:
                    del self._until_s[name]
                rests = self._mode != "always" and not (self._until_s or self._held or self._told)
                self._changed.wait(None if rests else _LOOK_AGAIN_S)
        self._tell()

    def _tell(self) -> None:
        """Tell the senders what has changed, and again what holds on."""
        for stream in self._streams():
            state, told = stream.state, self._told.get(stream.name)
            if state is None or not state.live or stream.absence:
                self._told.pop(stream.name, None)
                continue
            now_s, is_watched = time.monotonic(), self.is_watched(stream.name)
            is_due = told is None or told[1] != state.epoch or now_s - told[0] >= RENEW_S
            if is_watched and is_due and self._say(stream, LEASE_S):
                self._told[stream.name] = now_s, state.epoch
            elif not is_watched and told is not None:
                self._say(stream, 0)
                del self._told[stream.name]

    def _say(self, stream: Stream, lease_s: int) -> bool:
        try:
            self._command(stream, Command("view", viewer=self._viewer, lease_s=lease_s))
        except EdgesemError as error:
            self._limited_log.warn("the sender of %s cannot be told who watches: %s", stream.name, error)
            return False
        return True
