"""Client of a sender's `cmd` topic: publishes one command and waits for the broker's confirmation."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from edgesem.errors import LinkError
from edgesem.packet.seal import Seal
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from runtime.settings import BrokerSettings, SealSettings

_PATIENCE_S = 10.0


@dataclass(frozen=True)
class AskSettings:
    """Settings of `edgesem ask`: the broker, and the key of a sealed stream."""

    broker: BrokerSettings = field(default_factory=BrokerSettings)
    seal: SealSettings = field(default_factory=SealSettings)


def ask(address: Address, topics: Topics, command: Command, key: bytes | None = None) -> None:
    """Publish a command and wait until the broker has it. LinkError if that fails within 10 s.

    With the key of a sealed stream the command is signed, for which the stream's birth message must be at the broker.
    """
    born, births = threading.Event(), list[Birth]()

    def take(topic: str, payload: bytes) -> None:
        if topic == topics.birth and not births:
            births.append(Birth.from_bytes(payload, base=topics.base))
            born.set()

    with Connection(address, name="ask", subscribe=(topics.birth,), on_message=take) as connection:
        payload = command.to_bytes()
        if key is not None:
            if not born.wait(_PATIENCE_S):
                raise LinkError(f"{topics.base} has no birth at the broker, so its commands cannot be signed: start it")
            payload = Seal(key, stream=topics.base, salt=births[0].salt).sign(payload, topics.cmd)
        confirmed = threading.Event()
        connection.publish(topics.cmd, payload, confirm=confirmed.set)
        if not confirmed.wait(_PATIENCE_S):
            raise LinkError(f"{address} has not confirmed the command within {_PATIENCE_S:.0f} s: ask again")
