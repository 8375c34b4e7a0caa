"""Client of a sender's `cmd` topic: publishes one command to a running sender, and waits for the confirmation."""

from __future__ import annotations

import contextlib
import difflib
import queue
import threading
from dataclasses import dataclass, field

from edgesem.errors import LinkError, PacketError
from edgesem.packet.seal import Seal
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.settings import STATE_INTERVAL_S, BrokerSettings, SealSettings

_PATIENCE_S = 10.0
_RETAINED_S = 3.0
"""Retained messages come right after the subscription."""
_STATE_S = STATE_INTERVAL_S + 5.0
"""A running sender publishes its state at least so often, also where the broker retains nothing."""
_SHOWN = 5


@dataclass(frozen=True)
class AskSettings:
    """Settings of `edgesem ask`: the broker, and the key of a sealed stream."""

    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)


def ask(address: Address, topics: Topics, command: Command, key: bytes | None = None) -> None:
    """Publish a command and wait until the broker has it. LinkError if that fails within 10 s.

    LinkError too if the stream's sender is gone, which its retained state says (its last will), or if nothing is heard
    of such a stream for 15 s. With the key of a sealed stream the command is signed, for which the stream's birth
    message must be at the broker.
    """
    stream = _Stream(topics)
    with Connection(address, name="ask", subscribe=(topics.birth, topics.state), on_message=stream.take) as connection:
        if not stream.heard.wait(_RETAINED_S) and not stream.stated.wait(_STATE_S):
            raise LinkError(f"no sender of {_name(topics)} is known at {address}: {_others(address, topics)}")
        stream.stated.wait(_RETAINED_S)
        if stream.state is not None and not stream.state.up:
            raise LinkError(
                f"the sender of {_name(topics)} is not connected: it ended or lost its link, as its last state at "
                f"{address} says; start it, or ask again when it is back"
            )
        payload = command.to_bytes()
        if key is not None:
            if not stream.born.wait(_PATIENCE_S) or stream.birth is None:
                raise LinkError(f"{topics.base} has no birth at the broker, so its commands cannot be signed: start it")
            payload = Seal(key, stream=topics.base, salt=stream.birth.salt).sign(payload, topics.cmd)
        answers: queue.Queue[str] = queue.Queue()
        connection.publish(topics.cmd, payload, confirm=lambda: answers.put(""), refuse=answers.put)
        try:
            refused = answers.get(timeout=_PATIENCE_S)
        except queue.Empty:
            raise LinkError(f"{address} has not confirmed the command within {_PATIENCE_S:.0f} s: ask again") from None
        if refused:
            raise LinkError(f"{address} refused the command on {topics.cmd}: {refused}; look at the broker's ACL")


class _Stream:
    """Messages of one stream since the subscription: its birth, and its newest state."""

    def __init__(self, topics: Topics) -> None:
        self.birth: Birth | None = None
        self.state: State | None = None
        self.heard, self.born, self.stated = threading.Event(), threading.Event(), threading.Event()
        self._topics = topics

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


def _others(address: Address, topics: Topics) -> str:
    """Text on the streams that the broker has states of, those of similar names first."""
    found: queue.Queue[str] = queue.Queue()
    every = "edgesem/v1/+/+/+/state"
    names: set[str] = set()
    with (
        contextlib.suppress(LinkError),
        Connection(address, name="ask", subscribe=every, on_message=lambda topic, _: found.put(topic)),
        contextlib.suppress(queue.Empty),
    ):
        while True:
            topic = found.get(timeout=_RETAINED_S if not names else 0.2)
            with contextlib.suppress(PacketError):
                names.add(_name(Topics.parse(topic)[0]))
    if not names:
        return "nor any other; check SITE/DEVICE/STREAM, and that the sender is connected to this broker"
    near = difflib.get_close_matches(_name(topics), sorted(names), _SHOWN, 0.0)
    more = f" and {len(names) - len(near)} more" if len(names) > len(near) else ""
    return f"known are {', '.join(near)}{more}"


def _name(topics: Topics) -> str:
    return f"{topics.site}/{topics.device}/{topics.stream}"
