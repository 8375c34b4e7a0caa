"""Vectors of what must be refused, and of packets that are good but whose symbols are damaged."""

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cbor2

import edgesem
from edgesem.packet.keys import Identity
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from edgesem.packet.side_information import Reference, SideInformation
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.piece import Piece
from runtime.protocol.state import State
from tests.vectors.collection import BASE, DEVICE_SEED, FOLDER, SALT, STREAM_KEY, Vectors

SEAL = {"stream_key": STREAM_KEY.hex(), "salt": SALT.hex(), "stream": BASE}


def refusals(vectors: Vectors) -> None:
    """Bytes that must be refused, each for one reason; their checksums are right unless it says otherwise."""
    refused_packets(vectors)
    refused_seals(vectors)
    refused_births(vectors)
    refused_messages(vectors)
    refused_pieces(vectors)


def read(name: str) -> bytes:
    """The file of a vector that was written before."""
    return (FOLDER / name).read_bytes()


def refused_packets(vectors: Vectors) -> None:
    """Plain packets."""
    good = read("key_64_layer0.es")

    def wrong(changed: dict[int, int], body: bytes = bytes(8)) -> bytes:
        head = bytearray(good[:20])
        for position, value in changed.items():
            head[position] = value
        return bytes(head) + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body

    side = {1: 0x14}
    for name, about, data in (
        ("short", "23 bytes.", good[:23]),
        ("checksum", "A wrong checksum.", good[:-1] + bytes([good[-1] ^ 1])),
        ("magic", "A wrong first byte.", wrong({0: 0xE4})),
        ("version", "Version 2.", wrong({1: 0x20})),
        ("sealed", "Flag SEALED, where the stream has no key.", wrong({1: 0x11})),
        ("flag", "Flag bit 3.", wrong({1: 0x18})),
        ("width", "Width 0.", wrong({14: 0, 15: 0})),
        ("height", "Height 4097.", wrong({16: 0x01, 17: 0x10})),
        ("layer_bits", "Bit 6 of the layer byte.", wrong({19: 0x40})),
        ("layer_count", "Two layers carried of one.", wrong({19: 0x04})),
        ("first_layer", "The first layer is not among the total.", wrong({19: 0x01})),
        ("chunk_length", "A chunk longer than the packet.", wrong({19: 0x14}, b"\x03\x00ab")),
        ("side_empty", "Flag SIDE and a block of no bytes.", wrong(side, bytes(9))),
        ("side_kind", "Side information of kind 0.", wrong(side, b"\x03\x00\x01a" + bytes(8))),
        ("side_order", "Kind 2 twice.", wrong(side, b"\x06\x02\x01a\x02\x01b" + bytes(8))),
        ("side_size", "A reference of one byte.", wrong(side, b"\x03\x01\x01a" + bytes(8))),
        (
            "side_copies",
            "A copy map that goes beyond the picture.",
            wrong(side, b"\x09\x01\x07\x01\0\0\0\x04\x7f\xf0" + bytes(8)),
        ),
        (
            "side_motion",
            "Motion of a block beyond the picture.",
            wrong(side, b"\x09\x01\x07\x01\0\0\0\x84\x01\x6b" + bytes(8)),
        ),
        (
            "side_motion_unit",
            "Motion in a unit that is not defined yet.",
            wrong(side, b"\x09\x01\x07\x01\0\0\0\x84\x01\xe0" + bytes(8)),
        ),
        (
            "side_detail",
            "A detail whose right edge is its left one.",
            wrong(side, b"\x0e\x06\x0c\1\0\0\0\1\0\2\0\0\0\0\0" + bytes(8)),
        ),
        ("side_layer", "Side information with layer 1.", wrong({1: 0x14, 19: 0x31}, b"\x03\x02\x01a")),
    ):
        with suppress(edgesem.EdgesemError):
            Packet.from_bytes(data)
            raise AssertionError(f"{name} was not refused")
        vectors.write(f"refused_{name}", "refused", about, data, "bin", **{"as": "packet"})
    for name, about, data, layer, more in (
        ("topic", "A base layer on the topic of layer 1.", good, 1, {}),
        ("bundle", "Made with another bundle.", wrong({2: good[2] ^ 1}), 0, {}),
        ("promised", "PROMISED with first layer 1.", wrong({1: 0x12, 19: 0x31}), 1, {}),
        ("pixels", "1921x1088 pixels, where 2,088,960 are allowed.", wrong({14: 0x81, 15: 7, 16: 0x40, 17: 4}), 0,
         {"most_pixels": 2_088_960}),
    ):  # fmt: skip
        topic = f"{BASE}/pkt/{layer}"
        vectors.write(f"refused_{name}", "refused", about, data, "bin", **{"as": "packet"}, topic=topic, **more)


def refused_seals(vectors: Vectors) -> None:
    """What comes to a peer that has a key."""
    sealed, plain = read("sealed_layer0.es"), read("key_64_layer0.es")
    elsewhere = Seal(STREAM_KEY, stream=f"{BASE}2", salt=SALT)
    for name, about, data in (
        ("not_sealed", "A plain packet, where the stream has a key.", plain),
        ("sealed_header", "A sealed packet with one bit of its time changed.", flipped(sealed, 10)),
        ("sealed_tag", "A sealed packet with one bit of its tag changed.", flipped(sealed, -1)),
        ("sealed_stream", "A packet that was sealed for another stream.", elsewhere.seal(plain)),
        ("sealed_short", "A sealed packet of 39 bytes.", sealed[:39]),
    ):
        topic = f"{BASE}/pkt/0"
        vectors.write(f"refused_{name}", "refused", about, data, "bin", **{"as": "sealed"}, topic=topic, **SEAL)
    signed = read("signed_ack.bin")
    for name, about, data, topic in (
        ("tag", "An acknowledgement with one bit of its tag changed.", flipped(signed, -1), "ack"),
        ("tag_topic", "An acknowledgement with its tag, on the topic of commands.", signed, "cmd"),
        ("tag_missing", "An acknowledgement without a tag, where the stream has a key.", signed[:-16], "ack"),
    ):
        about_it = {"as": "signed", "topic": f"{BASE}/{topic}", **SEAL}
        vectors.write(f"refused_{name}", "refused", about, data, "bin", **about_it)


def flipped(data: bytes, place: int) -> bytes:
    """The same bytes with one bit changed."""
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def refused_births(vectors: Vectors) -> None:
    """Births; all but the first have a good signature of what stands in them."""
    good, identity = read("birth.cbor"), Identity(DEVICE_SEED)
    body = cbor2.loads(cbor2.loads(good)["b"])

    def signed(inner: bytes, base: str = BASE) -> bytes:
        signature = identity.sign(b"edgesem birth\0" + base.encode() + b"\0" + inner)
        tag = Seal(STREAM_KEY, stream=base, salt=SALT).tag(inner, f"{base}/birth")
        return cbor2.dumps({"b": inner, "k": identity.public_key, "s": signature, "m": tag})

    for name, about, data in (
        ("birth_forged", "A birth with one bit of its signature changed.", flipped(good, -20)),
        ("refused_birth_tag", "One bit of the tag changed; for a receiver that has the key.", flipped(good, -1)),
        ("refused_birth_stream", "Signed for another stream.", signed(cbor2.dumps(body), f"{BASE}2")),
        ("refused_birth_version", "Version 2.", signed(cbor2.dumps({**body, "v": 2}))),
        ("refused_birth_salt", "A salt of 15 bytes.", signed(cbor2.dumps({**body, "z": bytes(15)}))),
        ("refused_birth_key", "No key `t`.", signed(cbor2.dumps({k: v for k, v in body.items() if k != "t"}))),
        ("refused_birth_trailing", "A byte after the map of the body.", signed(cbor2.dumps(body) + b"\0")),
        ("refused_birth_text", "A line feed in `n`.", signed(cbor2.dumps({**body, "n": "a\nb"}))),
    ):
        about_it = {"as": "birth", "topic": f"{BASE}/birth", "base": BASE, "stream_key": STREAM_KEY.hex()}
        must_fail(name, lambda data: Birth.from_bytes(data, base=BASE, key=STREAM_KEY), data)
        vectors.write(name, "refused", about, data, "cbor", **about_it)


def refused_messages(vectors: Vectors) -> None:
    """Acknowledgements, states, commands."""
    state = cbor2.loads(read("state.cbor"))
    vector = bytes(range(64))
    readers: dict[str, Any] = {"ack": Ack.from_bytes, "state": State.from_bytes, "command": Command.from_bytes}
    box = {"x": 0.5, "y": 0.0, "w": 0.5, "h": 1.0}
    for kind, name, about, data in (
        ("ack", "short", "Seven integers.", cbor2.dumps([3, 1, 0, 0, 0, 0, 0])),
        ("ack", "tag", "A tag before a number.", b"\x88\x03\xd8\x1d\x01" + bytes(6)),
        ("ack", "layer", "Layer 4.", cbor2.dumps([3, 1, 4, 0, 0, 0, 0, 0])),
        ("ack", "float", "A float.", cbor2.dumps([3, 1.0, 0, 0, 0, 0, 0, 0])),
        ("ack", "boolean", "A boolean.", cbor2.dumps([3, 1, 0, 0, 0, True, 0, 0])),
        ("ack", "trailing", "A byte after the array.", read("ack.cbor") + b"\0"),
        ("ack", "size", "Valid, but 73 bytes long.", b"\x88" + b"".join(b"\x1b" + bytes(7) + b"\1" for _ in range(8))),
        ("state", "key", "No key `y`.", cbor2.dumps({k: v for k, v in state.items() if k != "y"})),
        ("state", "float", "`w` as a float.", cbor2.dumps({**state, "w": 9000.0})),
        ("state", "null", "`e` as null.", cbor2.dumps({**state, "e": None})),
        ("state", "undefined", "`r` as undefined.", cbor2.dumps({**state, "r": cbor2.undefined})),
        ("command", "kind", "A kind that is not known.", cbor2.dumps({"c": "reboot", "i": 1})),
        ("command", "missing", "A pause without `s`.", cbor2.dumps({"c": "pause", "i": 1})),
        ("command", "nan", "A pause of NaN seconds.", cbor2.dumps({"c": "pause", "i": 1, "s": float("nan")})),
        ("state", "live", "`L` is 3.", cbor2.dumps({**state, "L": 3})),
        ("state", "detail", "`D` with one number.", cbor2.dumps({**state, "D": [1920]})),
        ("command", "view", "A lease of 601 s.", cbor2.dumps({"c": "view", "i": 1, "n": 1, "s": 601})),
        ("command", "snapshot", "255 bytes.", cbor2.dumps({"c": "snapshot", "i": 1, "b": 255})),
        ("command", "roi", "It goes beyond the right edge.", cbor2.dumps({"c": "roi", "i": 1, **box, "w": 0.51})),
        ("command", "narrow", "Narrower than 1/64.", cbor2.dumps({"c": "roi", "i": 1, **box, "w": 0.015})),
        ("command", "drop", "Drop 256.", cbor2.dumps({"c": "region", "i": 1, **box, "d": 256})),
        ("command", "query", "An empty last query.", cbor2.dumps({"c": "watch", "i": 1, "q": "a;", "v": b""})),
        ("command", "letters", "101 letters.", cbor2.dumps({"c": "watch", "i": 1, "q": 101 * "a", "v": b""})),
        ("command", "vectors", "Two vectors for one.", cbor2.dumps({"c": "watch", "i": 1, "q": "a", "v": 2 * vector})),
        ("command", "bundle", "3 bytes of bundle ids.", cbor2.dumps({"c": "bundle", "i": 1, "h": b"abc"})),
        ("command", "budget", "255 bytes a frame.", cbor2.dumps({"c": "budget", "i": 1, "b": 255})),
        ("command", "rate", "More than 10^9 bit/s.", cbor2.dumps({"c": "budget", "i": 1, "r": 10**9 + 1})),
        ("state", "watch", "`W` is a number.", cbor2.dumps({**state, "W": 1})),
        ("state", "limit", "`B` is 255.", cbor2.dumps({**state, "B": 255})),
        ("command", "list", "A list.", cbor2.dumps(["key", 1])),
    ):  # fmt: skip
        must_fail(name, readers[kind], data)
        topic = f"{BASE}/{'cmd' if kind == 'command' else kind}"
        vectors.write(f"refused_{kind}_{name}", "refused", about, data, "cbor", **{"as": kind}, topic=topic)


def refused_pieces(vectors: Vectors) -> None:
    """Pieces of promised packets."""
    good = read("piece_1.bin")
    for name, about, data in (
        ("short", "20 bytes: a piece of no bytes.", good[:20]),
        ("magic", "A wrong first byte: that of a packet.", b"\xe5" + good[1:]),
        ("version", "Version 2.", good[:1] + b"\x20" + good[2:]),
        ("size", "Of a packet of 23 bytes.", Piece(3, 1, 0, 23, 0, b"a").to_bytes()),
        ("large", "Of a packet of 262,161 bytes.", Piece(3, 1, 0, 262_161, 0, b"a").to_bytes()),
        ("beyond", "It goes beyond the packet's end.", Piece(3, 1, 0, 30, 29, b"ab").to_bytes()),
        ("offset", "It begins far beyond it.", Piece(3, 1, 0, 30, 2**32 - 1, b"a").to_bytes()),
    ):
        must_fail(name, Piece.from_bytes, data)
        more = {"as": "piece", "topic": f"{BASE}/pkt/piece"}
        vectors.write(f"refused_piece_{name}", "refused", about, data, "bin", **more)


def must_fail(name: str, reader: Any, data: Any) -> None:
    """Check that the program refuses it."""
    with suppress(edgesem.EdgesemError):
        reader(data)
        raise AssertionError(f"{name} was not refused")


def damages(vectors: Vectors) -> None:
    """Packets that are good, and acknowledged, but give no picture."""
    key, extreme = (Packet.from_bytes(read(f"{name}.es")) for name in ("key_64", "key_extreme"))
    base, last = key.chunks[0], key.split()[3]
    refer = SideInformation(reference=Reference(2, 4))
    for name, about, packet, before, reference in (
        ("head", "A base layer of 4 bytes.", replace(key, total_layers=1, chunks=(base[:4],)), (), None),
        ("lanes", "2^9 lanes.", replace(key, total_layers=1, chunks=(b"\x09\0" + bytes(999),)), (), None),
        ("width", "log_width 1, one lane.", replace(key, total_layers=1, chunks=(b"\0\x10" + base[2:],)), (), None),
        ("word", "A layer with an odd number of bytes.", replace(key, chunks=(*key.chunks[:3], b"\0")), (), None),
        ("early", "One zero word less than may be left out: the words end early.",
         replace(extreme, chunks=(*extreme.chunks[:3], extreme.chunks[3][:-2])), (), None),
        ("late", "A word is left over.", replace(key, chunks=(*key.chunks[:3], key.chunks[3] + b"\1\0")), (), None),
        ("parts", "Layer 3 alone; a word is left over when the frame is put together.",
         replace(last, chunks=(last.chunks[0] + b"\1\0",)), ("key_64_layer0", "key_64_layer1", "key_64_layer2"), None),
        ("reference", "Its reference, key_odd_size, has another number of positions.", replace(key, side_info=refer),
         (), {"vector": "key_odd_size", "layers": 4}),
        ("copied", "Symbols, though all is copied.",
         replace(Packet.from_bytes(read("inter_all_copied.es")), chunks=(base,)),
         (), {"vector": "inter_copied_again", "layers": 4}),
    ):  # fmt: skip
        name = f"damaged_{name}"
        whole = Packet.join([*(Packet.from_bytes(read(f"{part}.es")) for part in before), packet])
        latent = vectors.latents[reference["vector"], reference["layers"]] if reference else None
        must_fail(name, lambda whole, latent=latent: vectors.codec.unpack(whole, latent), whole)
        more = {"topic": f"{BASE}/pkt/{packet.first_layer}", "messages": [*before, name], "reference": reference}
        vectors.write(name, "damaged", about, packet.to_bytes(), "es", **more)
