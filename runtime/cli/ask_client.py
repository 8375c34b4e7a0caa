"""Client of a sender's `cmd` topic: publishes one command to a running sender, and waits for the confirmation."""

from __future__ import annotations

import contextlib
import difflib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgesem.errors import LinkError, PacketError
from edgesem.packet.seal import Seal
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.settings import BrokerSettings
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.settings import STATE_INTERVAL_S, SealSettings

_PATIENCE_S = 10.0
_RETAINED_S = 3.0
"""Retained messages come right after the subscription."""
_STATE_S = STATE_INTERVAL_S + 5.0
"""A running sender publishes its state at least so often, also where the broker retains nothing."""
_SHOWN = 5
_UNKNOWN = "unknown"
"""Of a stream of which nothing was heard."""


@dataclass(frozen=True)
class AskSettings:
    """Settings of `edgesem ask`: the broker, and the key of a sealed stream."""

    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)


def ask(addresses: Sequence[Address], topics: Topics, command: Command, key: bytes | None = None) -> None:
    """Publish a command and wait until the broker has it. LinkError if that fails within 10 s.

    LinkError too if the stream's sender is gone, which its retained state says (its last will), or if nothing is heard
    of such a stream for 15 s. With the key of a sealed stream the command is signed, for which the stream's birth
    message must be at the broker.
    """
    troubles = ask_all(addresses, [topics], command, key, lambda: f": {_others(addresses, topics)}")
    if trouble := next(iter(troubles.values())):
        raise LinkError(trouble)


def ask_all(
    addresses: Sequence[Address],
    streams: Sequence[Topics],
    command: Command,
    key: bytes | None = None,
    hint: Callable[[], str] = lambda: "",
) -> dict[str, str]:
    """Publish a command to several senders, over one connection: why it failed by stream, empty where it did not.

    As `ask`, and all are waited for at the same time. LinkError if there is no connection.
    """
    known = {topics.base: _Stream(topics) for topics in streams}
    filters = [topic for topics in streams for topic in (topics.birth, topics.state)]

    def take(topic: str, payload: bytes) -> None:
        stream = known.get(topic.rpartition("/")[0])
        if stream is not None:
            stream.take(topic, payload)

    troubles = {}
    with Connection(addresses, name="ask", subscribe=filters, on_message=take) as connection:
        began_s = time.monotonic()
        for stream in known.values():
            troubles[stream.name] = stream.ask(connection, command, key, began_s) or ""
            if troubles[stream.name] == _UNKNOWN:
                troubles[stream.name] = f"no sender of {stream.name} is known at {connection.address}{hint()}"
    return troubles


class _Stream:
    """Messages of one stream since the subscription: its birth, and its newest state."""

    def __init__(self, topics: Topics) -> None:
        self.birth: Birth | None = None
        self.state: State | None = None
        self.heard, self.born, self.stated = threading.Event(), threading.Event(), threading.Event()
        self.name = topics.name
        self._topics = topics

    def ask(self, connection: Connection, command: Command, key: bytes | None, began_s: float) -> str:
        """Publish the command, and wait for the broker's answer; why that failed, or empty. All streams are heard since
        `began_s`."""

        def left_s(patience_s: float) -> float:
            return max(0.0, began_s + patience_s - time.monotonic())

        if not self.heard.wait(left_s(_RETAINED_S)) and not self.stated.wait(left_s(_RETAINED_S + _STATE_S)):
            return _UNKNOWN
        self.stated.wait(left_s(_RETAINED_S))
        if self.state is not None and not self.state.up:
            return (
                f"the sender of {self.name} is not connected: it ended or lost its link, as its last state at "
                f"{connection.address} says; start it, or ask again when it is back"
            )
        if command.kind == "detail" and self.state is not None and self.state.detail is None:
            return f"{self.name} keeps no pictures in full resolution: start its sender with --detail"
        if command.kind == "event" and self.state is not None and not self.state.makes_events:
            return f"{self.name} makes no events: start its sender with --events"
        payload = command.to_bytes()
        if key is not None:
            if not self.born.wait(left_s(_RETAINED_S + _PATIENCE_S)) or self.birth is None:
                return f"{self._topics.base} has no birth at the broker, so its commands cannot be signed: start it"
            payload = Seal(key, stream=self._topics.base, salt=self.birth.salt).sign(payload, self._topics.cmd)
        answers: queue.Queue[str] = queue.Queue()
        try:
            connection.publish(self._topics.cmd, payload, confirm=lambda: answers.put(""), refuse=answers.put)
            refused = answers.get(timeout=_PATIENCE_S)
        except LinkError as error:
            return str(error)
        except queue.Empty:
            return f"{connection.address} has not confirmed the command within {_PATIENCE_S:.0f} s: ask again"
        if refused:
            return (
                f"{connection.address} refused the command on {self._topics.cmd}: {refused}; look at the broker's ACL"
            )
        return ""

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message; one that cannot be read is ignored."""
        with contextlib.suppress(PacketError):
            if topic == self._topics.birth:
                self.birth = Birth.from_bytes(payload, base=self._topics.base)
                self.born.set()
            elif topic == self._topics.state:
                self.state = State.from_bytes(payload)
                self.stated.set()
            self.heard.set()


def _others(addresses: Sequence[Address], topics: Topics) -> str:
    """Text on the streams that the broker has states of, those of similar names first."""
    found: queue.Queue[str] = queue.Queue()
    every = "edgesem/v1/+/+/+/state"
    names: set[str] = set()
    with (
        contextlib.suppress(LinkError),
        Connection(addresses, name="ask", subscribe=every, on_message=lambda topic, _: found.put(topic)),
        contextlib.suppress(queue.Empty),
    ):
        while True:
            topic = found.get(timeout=_RETAINED_S if not names else 0.2)
            with contextlib.suppress(PacketError):
                names.add(Topics.parse(topic)[0].name)
    if not names:
        return "nor any other; check SITE/DEVICE/STREAM, and that the sender is connected to this broker"
    near = difflib.get_close_matches(topics.name, sorted(names), _SHOWN, 0.0)
    more = f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    return f"known are {', '.join(near)}{more}"
