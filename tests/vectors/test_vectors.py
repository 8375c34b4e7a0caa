"""Every test vector, read by the program: what holds for other readers holds for it."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import edgesem
from edgesem import Codec
from edgesem.codec.latent import Latent
from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.piece import Piece
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox
from runtime.receiver.options import Limits
from tests.vectors.collection import BASE, STREAM_KEY
from tests.vectors.index import INDEX, VECTORS, data_of, names

MESSAGES: dict[str, Callable[[bytes], object]] = {
    "ack": Ack.from_bytes,
    "state": State.from_bytes,
    "command": Command.from_bytes,
    "piece": Piece.from_bytes,
    "birth": lambda data: Birth.from_bytes(data, base=BASE, key=STREAM_KEY),
}


def seal_of(vector: dict[str, Any]) -> Seal:
    key, salt = (bytes.fromhex(vector[name]) for name in ("stream_key", "salt"))
    return Seal(key, stream=vector["stream"], salt=salt)


def inbox_of(vector: dict[str, Any], acks: list[Ack] | None = None) -> Inbox:
    """An inbox of the vectors' stream, with a key if the vector is for one; it notes what it acknowledges."""
    topics, _ = Topics.parse(f"{BASE}/birth")
    most = vector.get("most_pixels", Limits().max_pixels)
    has_key = "stream_key" in vector
    inbox = Inbox(
        topics=topics,
        bundle_ids=[INDEX["bundle"]["id"]],
        acknowledge=lambda ack, _: None if acks is None else acks.append(ack),
        sealed=has_key,
        backlog=8,
        max_pixels=most,
    )
    if has_key:
        inbox.seals.offer(b"", seal_of(vector))
    return inbox


@pytest.fixture(scope="module")
def codec() -> Codec:
    return edgesem.load(precision="fp32")


def latent_of(codec: Codec, name: str, layers: int) -> Latent:
    """The latent of a packet vector, after those that it refers to."""
    entry = next(entry for entry in VECTORS[name]["decoded"] if entry["layers"] == layers)
    named = entry.get("reference")
    reference = None if named is None else latent_of(codec, named["vector"], named["layers"])
    return codec.unpack(Packet.from_bytes(data_of(name)).prefix(layers), reference)


@pytest.mark.parametrize("name", names("packet"))
def test_packet_decodes_to_the_numbers_of_its_vector(codec: Codec, name: str) -> None:
    for entry in VECTORS[name]["decoded"]:
        values = latent_of(codec, name, entry["layers"]).values
        assert hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest() == entry["latent_sha256"]


@pytest.mark.parametrize("name", names("packet", "layer", "sealed", "damaged"))
def test_good_packet_is_taken(name: str) -> None:
    vector = VECTORS[name]
    assert inbox_of(vector).take(vector["topic"], data_of(name))


@pytest.mark.parametrize("name", names("reassembly"))
def test_messages_of_one_frame(name: str) -> None:
    vector = VECTORS[name]
    inbox = inbox_of(vector)
    for message in vector["messages"]:
        assert inbox.take(VECTORS[message]["topic"], data_of(message))
    inbox.flush()
    found = inbox.pop()
    if vector["same_as"] is None:
        assert found is None
    else:
        assert found == Packet.from_bytes(data_of(vector["same_as"])).prefix(vector["layers"])


@pytest.mark.parametrize("name", names("assembly"))
def test_pieces_of_one_packet(name: str) -> None:
    vector = VECTORS[name]
    inbox = inbox_of(vector)
    for message in vector["messages"]:
        assert inbox.take(VECTORS[message]["topic"], data_of(message))
    gives = vector["gives"]
    assert inbox.pop() == (None if gives is None else Packet.from_bytes(data_of(gives)))
    assert inbox.pop() is None


@pytest.mark.parametrize("name", names("damaged"))
def test_damaged_frame_gives_no_picture(codec: Codec, name: str) -> None:
    vector = VECTORS[name]
    named = vector["reference"]
    reference = None if named is None else latent_of(codec, named["vector"], named["layers"])
    packet = Packet.join([Packet.from_bytes(data_of(message)) for message in vector["messages"]])
    with pytest.raises(PacketError):
        codec.unpack(packet, reference)


@pytest.mark.parametrize("name", names("refused"))
def test_refused(name: str) -> None:
    vector, data = VECTORS[name], data_of(name)
    if vector["as"] in MESSAGES:
        with pytest.raises(PacketError):
            MESSAGES[vector["as"]](data)
    elif vector["as"] == "signed":
        with pytest.raises(PacketError):
            seal_of(vector).verify(data, vector["topic"])
    else:
        acks: list[Ack] = []
        inbox = inbox_of(vector, acks)
        first_layer = data[19] & 3 if len(data) > 19 else 0
        taken = inbox.take(vector.get("topic", f"{BASE}/pkt/{first_layer}"), data)
        assert taken == (name == "refused_bundle")  # that stream is one that it hears, and cannot draw
        inbox.flush()
        assert (acks, inbox.pop()) == ([], None)


@pytest.mark.parametrize("name", names("signed"))
def test_signed(name: str) -> None:
    vector = VECTORS[name]
    assert seal_of(vector).verify(data_of(name), vector["topic"]) == data_of(vector["payload"])


@pytest.mark.parametrize("name", names(*MESSAGES))
def test_message_is_taken(name: str) -> None:
    MESSAGES[VECTORS[name]["kind"]](data_of(name))
