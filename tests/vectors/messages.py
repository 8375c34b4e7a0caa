"""Vectors of messages beside packets: acknowledgements, births, states, commands."""

from dataclasses import asdict, replace
from typing import Any

from edgesem.packet.keys import Identity
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.state import State
from tests.vectors.collection import BASE, DEVICE_SEED, EPOCH, SALT, TIME_MS, Vectors

VECTOR = bytes(range(64))  # of a watch command


def messages(vectors: Vectors) -> None:
    """Acknowledgements, births, states, commands."""
    now = TIME_MS % 2**32
    acks = {
        "ack": Ack(EPOCH, 1, 0, now + 540, 31),
        "ack_kept": Ack(EPOCH, 1, 0, now + 540, 31, kept=1, receiver=0x12345678),
        "ack_held": Ack(EPOCH, 20, 3, now + 10_040, 31, receiver=0x12345678, held=4),
        "ack_largest": Ack(0xFFFF, 0xFFFFFFFF, 3, 0xFFFFFFFF, 0xFFFFFFFF, 1, 0xFFFFFFFF, 4),
    }
    for name, ack in acks.items():
        vectors.write(
            name, "ack", "An acknowledgement.", ack.to_bytes(), "cbor", topic=f"{BASE}/ack", fields=asdict(ack)
        )

    identity, bundle = Identity(DEVICE_SEED), vectors.codec.bundle
    birth = Birth(bundle.id, bundle.digest[:64], 640, 480, 2.0, EPOCH, SALT, TIME_MS, True, "edgesem")
    birth = replace(birth, public_key=identity.public_key)
    data = birth.to_bytes(identity, base=BASE)
    assert Birth.from_bytes(data, base=BASE) == birth
    about = {"topic": f"{BASE}/birth", "base": BASE, "fields": plain(asdict(birth))}
    vectors.write("birth", "birth", "A birth, signed with the device's key.", data, "cbor", **about)
    states = {
        "state": State(
            True, EPOCH, TIME_MS, 384_000, 0.042, 9000, 2300, 1_234_567, 1200, 17, 5, 0.61, 2, 0, 1, paused=False
        ),
        "state_will": State(False, EPOCH, TIME_MS),
    }
    for name, state in states.items():
        about = {"topic": f"{BASE}/state", "fields": asdict(state)}
        vectors.write(name, "state", "A state; null is: not known.", state.to_bytes(), "cbor", **about)

    commands = {
        "command_snapshot": Command("snapshot", 1, size_bytes=12_000),
        "command_key": Command("key", 2),
        "command_pause": Command("pause", 3, pause_s=600.0),
        "command_resume": Command("resume", 4),
        "command_roi": Command("roi", 5, roi=(0.0, 0.5, 1.0, 0.5)),
        "command_region": Command("region", 2**64 - 1, roi=(0.25, 0.25, 0.5, 0.5), drop=60),
        "command_watch": Command("watch", 7, queries=("a truck", "bicycle"), vectors=(VECTOR, b"")),
        "command_apart": Command("apart", 8),
    }
    for name, command in commands.items():
        data = command.to_bytes()
        assert Command.from_bytes(data) == command
        about = {"topic": f"{BASE}/cmd", "fields": fields_of(command)}
        vectors.write(name, "command", "A command.", data, "cbor", **about)


def fields_of(command: Command) -> dict[str, Any]:
    """The fields that count for a command's kind."""
    counted = {
        "snapshot": ("size_bytes",),
        "pause": ("pause_s",),
        "roi": ("roi",),
        "region": ("roi", "drop"),
        "watch": ("queries", "vectors"),
    }
    return plain({name: getattr(command, name) for name in ("kind", "id", *counted.get(command.kind, ()))})


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hex, tuples as lists."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
