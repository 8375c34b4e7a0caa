"""Vectors of messages beside packets: acknowledgements, births, states, commands, pieces of promised packets."""

from dataclasses import asdict, replace
from typing import Any

import cbor2

from edgesem.packet.keys import Identity
from edgesem.packet.seal import Seal
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.piece import Piece
from runtime.protocol.state import DataUsage, State
from tests.vectors.collection import BASE, DEVICE_SEED, EPOCH, FOLDER, SALT, STREAM_KEY, TIME_MS, Vectors

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
    birth = Birth(
        bundle.id, bundle.digest[:64], 640, 480, 2.0, EPOCH, SALT, TIME_MS, True, "edgesem", start=1_767_225_600
    )
    birth = replace(birth, public_key=identity.public_key)
    data = birth.to_bytes(identity, base=BASE, key=STREAM_KEY)
    assert Birth.from_bytes(data, base=BASE, key=STREAM_KEY) == birth
    about = {"topic": f"{BASE}/birth", "base": BASE, "stream_key": STREAM_KEY.hex(), "fields": plain(asdict(birth))}
    vectors.write("birth", "birth", "A birth, signed with the device's key.", data, "cbor", **about)
    states = {
        "state": State(
            True, EPOCH, TIME_MS, 384_000, 0.042, 9000, 2300, 1_234_567, 1200, 17, 5, 0.61, 2, 0, 1, paused=False
        ),
        "state_will": State(False, EPOCH, TIME_MS),
        "state_optional": State(
            True,
            EPOCH,
            TIME_MS,
            masked=True,
            grey=True,
            left_out=2,
            shrunk_percent=75,
            interval_s=300.0,
            live="watched",
            detail=(1920, 1080),
            data=DataUsage(1_000_000, 2_000_000, 2_500_000),
        ),
        "state_denoised": State(True, EPOCH, TIME_MS, denoised=True),
        "state_limits": State(
            True, EPOCH, TIME_MS, makes_events=True, watch="a truck; bicycle", max_bytes=3000, max_rate_bps=8000
        ),
    }
    for name, state in states.items():
        about = {"topic": f"{BASE}/state", "fields": state.as_dict()}
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
        "command_event": Command("event", 10, label="door bell"),
        "command_view": Command("view", 11, viewer=0x12345678, lease_s=25),
        "command_detail": Command("detail", 12, roi=(0.25, 0.3, 0.25, 0.2), size_bytes=12_000),
        "command_bundle": Command("bundle", 9, bundles=(0x1234, 0xFFFF)),
        "command_budget": Command("budget", 13, max_bytes=3000, max_rate_bps=8000),
        "command_budget_rate": Command("budget", 14, max_rate_bps=0),
    }
    for name, command in commands.items():
        data = command.to_bytes()
        assert Command.from_bytes(data) == command
        about = {"topic": f"{BASE}/cmd", "fields": fields_of(command)}
        vectors.write(name, "command", "A command.", data, "cbor", **about)


def pieces(vectors: Vectors) -> None:
    """Pieces of promised packets, and what comes of them in some order; after the sealed packets."""
    topics = {"topic": f"{BASE}/pkt/piece"}
    packet = (FOLDER / "key_64_promised.es").read_bytes()
    third = -(-len(packet) // 3)

    def write(name: str, about: str, data: bytes, offset: int, size_bytes: int) -> Piece:
        piece = Piece.cut(data, epoch=EPOCH, frame=1, offset=offset, size_bytes=size_bytes)
        vectors.write(name, "piece", about, piece.to_bytes(), "bin", **topics, fields=plain(asdict(piece)))
        return piece

    for number in range(3):
        write(f"piece_{number}", "A third of key_64_promised.", packet, number * third, third)
    write("piece_half", "Its first half: the same packet, cut otherwise.", packet, 0, len(packet) // 2)
    write("piece_rest", "All of it but 5 bytes.", packet, 5, len(packet))
    opened = (FOLDER / "sealed_promised.es").read_bytes()
    piece = write("piece_sealed", "The first 100 bytes of sealed_promised, without a tag.", opened, 0, 100)
    seal = Seal(STREAM_KEY, stream=BASE, salt=SALT)
    more = {"stream_key": STREAM_KEY.hex(), "salt": SALT.hex(), "stream": BASE, "message_key": seal._sign_key.hex()}
    data = seal.sign(piece.to_bytes(), f"{BASE}/pkt/piece")
    about = "The vector piece_sealed with its tag: a piece of a sealed stream."
    vectors.write("signed_piece", "signed", about, data, "bin", **more, **topics, payload="piece_sealed")

    for name, messages, gives in (
        ("assembly_in_order", ["piece_0", "piece_1", "piece_2"], "key_64_promised"),
        ("assembly_repeated", ["piece_0", "piece_0", "piece_1", "piece_1", "piece_2"], "key_64_promised"),
        ("assembly_cut_otherwise", ["piece_0", "piece_half", "piece_rest"], "key_64_promised"),
        ("assembly_tried_again", ["piece_0", "piece_2", "piece_0", "piece_1", "piece_2"], "key_64_promised"),
        ("assembly_with_a_gap", ["piece_0", "piece_2"], None),
        ("assembly_end_first", ["piece_1", "piece_2", "piece_0"], None),
        ("assembly_of_two", ["piece_0", "piece_sealed", "piece_1", "piece_2"], "key_64_promised"),
    ):
        about = "Pieces as they come, and the packet that they give."
        vectors.entries.append({"name": name, "kind": "assembly", "about": about, "messages": messages, "gives": gives})


def next_version(vectors: Vectors) -> None:
    """Messages and a packet as a later program of the same protocol version may send them: what is new is skipped."""
    new: dict[str, Any] = {"Z": [1, {"a": b"x"}], "new": None}
    for name, kind in (("ack_kept", "ack"), ("state", "state"), ("command_pause", "command"), ("birth", "birth")):
        data = (FOLDER / f"{name}.cbor").read_bytes()
        entry = next(entry for entry in vectors.entries if entry["name"] == name)
        item = cbor2.loads(data)
        if kind == "birth":
            body = cbor2.dumps({**cbor2.loads(item["b"]), **new})
            signature = Identity(DEVICE_SEED).sign(b"edgesem birth\0" + BASE.encode() + b"\0" + body)
            item = {**item, "b": body, "s": signature}
            item["m"] = Seal(STREAM_KEY, stream=BASE, salt=SALT).tag(body, f"{BASE}/birth")
        changed = cbor2.dumps([*item, 7, None] if kind == "ack" else {**item, **new})
        more = {key: entry[key] for key in ("topic", "base", "stream_key", "fields") if key in entry}
        vectors.write(f"next_{kind}", kind, f"{name}, with more in it: as of a later program.", changed, "cbor", **more)


def fields_of(command: Command) -> dict[str, Any]:
    """The fields that count for a command's kind."""
    counted = {
        "snapshot": ("size_bytes",),
        "pause": ("pause_s",),
        "roi": ("roi",),
        "region": ("roi", "drop"),
        "watch": ("queries", "vectors"),
        "bundle": ("bundles",),
        "event": ("label",),
        "view": ("viewer", "lease_s"),
        "detail": ("roi", "size_bytes"),
        "budget": ("max_bytes", "max_rate_bps"),
    }
    return plain({name: getattr(command, name) for name in ("kind", "id", *counted.get(command.kind, ()))})


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes in hex, tuples as lists."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
