"""What a receiver says to senders: acknowledgements and requests, noted under a lock and said outside of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from edgesem.errors import EdgesemError
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics


class Feedback:
    """Writes and signs what is to be said, and publishes it in order; all that only once a frame is on its way.

    `publish(topic, payload, qos)` may raise EdgesemError. `receiver` is our number, 0 for none.
    """

    def __init__(
        self, publish: Callable[[str, bytes, int], None], *, receiver: int, sealed: bool, limited_log: RateLimitedLog
    ) -> None:
        self.receiver = receiver
        self._publish, self._sealed, self._limited_log = publish, sealed, limited_log
        self._waiting: deque[tuple[str, Seal | None, Ack | Command]] = deque()

    def ack(self, topics: Topics, seal: Seal | None, ack: Ack) -> None:
        """Note an acknowledgement."""
        self._note(topics.ack, seal, ack)

    def command(self, topics: Topics, seal: Seal | None, command: Command) -> None:
        """Note a request."""
        self._note(topics.cmd, seal, command)

    def say(self) -> None:
        """Publish what was noted; not under a lock, for decoders shall not wait for a socket."""
        while self._waiting:
            try:
                topic, seal, what = self._waiting.popleft()
            except IndexError:  # another thread was faster
                return
            if isinstance(what, Ack) and self.receiver:
                what = replace(what, receiver=self.receiver)
            payload = what.to_bytes() if seal is None else seal.sign(what.to_bytes(), topic)
            try:
                self._publish(topic, payload, 0 if isinstance(what, Ack) and not what.kept else 1)
            except EdgesemError as error:  # the sender does not hear of it, and sends again what matters
                self._limited_log.warn("nothing could be said on %s: %s", topic, error)

    def _note(self, topic: str, seal: Seal | None, what: Ack | Command) -> None:
        if seal is None and self._sealed:  # nothing was opened yet, so there is nothing to sign with
            return
        self._waiting.append((topic, seal if self._sealed else None, what))
