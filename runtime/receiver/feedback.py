"""Feedback of a receiver to its senders: acknowledgements and commands, queued under a lock and sent outside of it."""

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
    """Queue of acknowledgements and commands. `publish_all` encodes, signs and publishes them in order.

    `ack` and `command` are called under `Streams.lock`; `publish_all` by any thread without it, because a decoder must
    not wait for a socket. `publish(topic, payload, qos)` may raise EdgesemError: then the message is lost, and the
    sender repeats what matters. `receiver` is our number, 0 for none.
    """

    def __init__(
        self, publish: Callable[[str, bytes, int], None], *, receiver: int, sealed: bool, limited_log: RateLimitedLog
    ) -> None:
        self.receiver = receiver
        self._publish, self._sealed, self._limited_log = publish, sealed, limited_log
        self._queue: deque[tuple[str, Seal | None, Ack | Command, int]] = deque()

    def ack(self, topics: Topics, ack: Ack, seal: Seal | None) -> None:
        """Queue an acknowledgement, to be signed with `seal`."""
        self._add(topics.ack, ack, seal, 1 if ack.kept else 0)

    def command(self, topics: Topics, command: Command, seal: Seal | None, *, qos: int = 1) -> None:
        """Queue a command, to be signed with `seal`."""
        self._add(topics.cmd, command, seal, qos)

    def publish_all(self) -> None:
        """Publish what is queued."""
        while self._queue:
            try:
                topic, seal, message, qos = self._queue.popleft()
            except IndexError:  # another thread was faster
                return
            if isinstance(message, Ack) and self.receiver:
                message = replace(message, receiver=self.receiver)
            payload = message.to_bytes() if seal is None else seal.sign(message.to_bytes(), topic)
            try:
                self._publish(topic, payload, qos)
            except EdgesemError as error:
                self._limited_log.warn("nothing could be published on %s: %s", topic, error)

    def _add(self, topic: str, message: Ack | Command, seal: Seal | None, qos: int) -> None:
        if seal is None and self._sealed:  # nothing was opened yet, so there is nothing to sign with
            return
        self._queue.append((topic, seal if self._sealed else None, message, qos))
