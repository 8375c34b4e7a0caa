"""Rules of the documents that the test vectors do not reach, or not all of."""

from __future__ import annotations

import json
import math
import random
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nacl.signing import SigningKey

from tests.independent import cbor, messages, packet
from tests.independent.encoder import Encoder
from tests.independent.packet import read_packet
from tests.independent.rans import Lanes, SymbolDecoder, Tables
from tests.independent.refusal import RefusedError

FOLDER = Path(__file__).parents[1] / "vectors"
PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector for vector in json.loads((FOLDER / "vectors.json").read_text())["vectors"]
}
BASE = "edgesem/v1/home/gate/main"
DEVICE_SEED = bytes(range(0x40, 0x60))


def data_of(name: str) -> bytes:
    """The bytes of a vector."""
    data: bytes = (FOLDER / VECTORS[name]["file"]).read_bytes()
    return data


def built(body: bytes, flags: int = 0, layers: int = 0x30, size: tuple[int, int] = (64, 64)) -> bytes:
    """A packet with a right checksum."""
    header = struct.pack("<BBHHIIHHBB", 0xE5, 0x10 | flags, 20104, 3, 1, 0, *size, 128, layers)
    return header + packet.checksum(header + bytes(4) + body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (built(bytes(65_536)), "chunks"),
        (built(bytes(262_121)), "long"),
        (built(b"\0", layers=0x34), "chunks"),
        (built(b"", flags=2, layers=0x31), "promised"),
        (built(b"", size=(1921, 1088)), "pixels"),
        *(
            (built(bytes.fromhex(block) + bytes(8), flags=4), "side information")
            for block in (
                *("00", "ff", "0101", "020200", "0301020001"),
                *("070105 01000000 00", "070105 01000000 05", "080106 01000000 0101", "020101", "0400020101"),
                *("070305 0200010101", "070305 0002010101", "070305 0000010100", "4302 41" + 65 * "11"),
                *("0e 0305 0000010101 0105 01000000 01", "080305 0000010101 00", "020305"),
            )
        ),
    ],
    ids=lambda value: f"{len(value)}-bytes" if isinstance(value, bytes) else value,
)
def test_packet_that_breaks_a_rule(data: bytes, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_packet(data)
    assert caught.value.reason == reason


def test_packet_at_the_limits() -> None:
    assert read_packet(built(b"")).chunks == (b"",)
    assert read_packet(built(b"\0\0", layers=0x34)).chunks == (b"", b"")
    assert len(read_packet(built(bytes(65_535))).chunks[0]) == 65_535
    assert read_packet(built(b"", size=(4096, 1))).header.width == 4096
    side = read_packet(built(bytes.fromhex("0a 0201 11 0305 ffffffffff"), flags=4)).side
    assert side.embedding == b"\x11"
    assert side.region == packet.Region(255, 255, 255, 255, 255)


def command(kind: str, **values: bytes) -> bytes:
    """A command with values that are coded already."""
    pairs = b"".join(b"\x61" + key.encode() + value for key, value in values.items())
    return bytes([0xA0 + 2 + len(values)]) + b"\x61c" + bytes([0x60 + len(kind)]) + kind.encode() + b"\x61i\x01" + pairs


def double(value: float) -> bytes:
    """A float of 64 bits."""
    return b"\xfb" + struct.pack(">d", value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("nothing", {}),
        ("pause", {}),
        *(
            ("pause", {"s": value})
            for value in (double(math.nan), double(math.inf), double(-1), double(86401), b"\xf5")
        ),
        *(("snapshot", {"b": value}) for value in (b"\x18\xff", b"\x1a\x00\x01\x00\x00", double(300))),
        *(("budget", {"b": value}) for value in (b"\x18\xff", b"\x1a\x00\x03\x0d\x41", double(300), b"\xf6")),
        *(("budget", {"r": value}) for value in (b"\x20", b"\x1a\x3b\x9a\xca\x01", b"\xf6")),
        ("roi", {"x": double(0.5), "y": b"\0", "w": double(0.6), "h": b"\x01"}),
        ("roi", {"x": b"\0", "y": b"\0", "w": double(0.01), "h": b"\x01"}),
        ("watch", {"q": b"\x61a", "v": b"\x41\x01"}),
        ("watch", {"q": b"\x63a;;", "v": b"\x40"}),
        ("watch", {"q": b"\x61\x07", "v": b"\x40"}),
        ("watch", {"q": b"\x71" + b";".join([b"a"] * 9), "v": b"\x40"}),
    ],
)
def test_command_that_breaks_a_rule(kind: str, values: dict[str, bytes]) -> None:
    with pytest.raises(RefusedError):
        messages.read_command(command(kind, **values))


def test_command_at_the_limits() -> None:
    roi = {"x": double(0.5), "y": b"\0", "w": double(0.5000005), "h": double(1 / 64)}
    assert messages.read_command(command("roi", **roi))["roi"] == [0.5, 0, 0.5000005, 1 / 64]
    assert messages.read_command(command("pause", s=b"\xf9\x3c\x00"))["pause_s"] == 1
    assert messages.read_command(command("watch", q=b"\x60", v=b"\x40"))["queries"] == []
    budget = messages.read_command(command("budget", b=b"\x1a\x00\x03\x0d\x40", r=b"\x1a\x3b\x9a\xca\x00"))
    assert (budget["max_bytes"], budget["max_rate_bps"]) == (200_000, 10**9)
    assert messages.read_command(command("budget", b=b"\0"))["max_bytes"] == 0


def signed_birth(body: bytes, base: str = BASE) -> bytes:
    """A birth with this body, signed with the device's key."""
    key = SigningKey(DEVICE_SEED)
    signature = key.sign(b"edgesem birth\0" + base.encode() + b"\0" + body).signature
    wrapped = b"\xa3\x61b\x59" + struct.pack(">H", len(body)) + body
    return wrapped + b"\x61k\x58\x20" + bytes(key.verify_key) + b"\x61s\x58\x40" + signature


def test_birth_of_the_seed() -> None:
    body = cbor.loads(data_of("birth"))["b"]
    fields = VECTORS["birth"]["fields"]
    assert messages.read_birth(signed_birth(body), BASE) == fields
    with pytest.raises(RefusedError, match="signature"):
        messages.read_birth(signed_birth(body), "edgesem/v1/home/gate/other")
    version = body.index(b"\x61v\x01") + 2
    with pytest.raises(RefusedError, match="value: v"):
        messages.read_birth(signed_birth(body[:version] + b"\x02" + body[version + 1 :]), BASE)
    with pytest.raises(RefusedError, match="cbor"):
        messages.read_birth(signed_birth(body[:version] + b"\xc1\x01" + body[version + 1 :]), BASE)


# Items that a decoder which interprets tags turns into an integer, a text, a number or the like.
TAGGED = ["c11a00000000", "c24101", "c349010000000000000000", "c0613a", "c4820001", "d8184101", "d8256161", "d9d9f701"]


@pytest.mark.parametrize("item", TAGGED)
def test_no_tag_is_interpreted(item: str) -> None:
    tagged = bytes.fromhex(item)
    with pytest.raises(RefusedError, match="tag"):
        cbor.loads(tagged)
    with pytest.raises(RefusedError, match="tag"):
        messages.read_ack(b"\x88" + tagged + bytes(7))
    with pytest.raises(RefusedError, match="tag"):
        messages.read_command(b"\xa2\x61c\x63key\x61i" + tagged)


@pytest.mark.parametrize(
    ("item", "value"),
    [
        ("9f01ff", [1]),
        ("98011b0000000000000001", [1]),
        ("bf6161f6ff", {"a": None}),
        ("a17f6161ff5f42000141ffff", {"a": b"\x00\x01\xff"}),
        ("83f93c00fa3f800000fb3ff0000000000000", [1.0, 1.0, 1.0]),
        ("3bffffffffffffffff", -(1 << 64)),
    ],
)
def test_any_valid_encoding(item: str, value: Any) -> None:
    assert cbor.loads(bytes.fromhex(item)) == value


@pytest.mark.parametrize(
    "item",
    [
        "",
        "1c",
        "ff",
        "1f",
        "f7",
        "f820",
        "9f01",
        "a161",
        "a1616101ff",
        "a2616101616102",
        "a10101",
        "5f6161ff",
        "81" * 9,
    ],
)
def test_bad_encoding(item: str) -> None:
    with pytest.raises(RefusedError, match="cbor"):
        cbor.loads(bytes.fromhex(item))


@pytest.mark.parametrize("name", ["key_64_layer0", "sealed_layer0"])
def test_the_example_of_the_document_is_the_vector(name: str) -> None:
    example = PROTOCOL.partition(f"Example: `tests/vectors/{name}.es`")[2]
    example = re.split("\n(?:## |`tests/)", example)[0]
    written = re.findall(r"^ {4}(?:header|ciphertext|tag|) *((?:[0-9a-f]{2} )*[0-9a-f]{2})(?: {3,}|$)", example, re.M)
    assert bytes.fromhex(" ".join(written)) == (FOLDER / f"{name}.es").read_bytes()


def test_embedding() -> None:
    numbers = packet.embedding_numbers(bytes.fromhex(VECTORS["inter_2"]["side_information"]["embedding"]))
    assert numbers is not None
    assert f"the vector begins {', '.join(map(str, numbers[:6]))} ..." in PROTOCOL
    assert len(numbers) == 128
    assert packet.embedding_numbers(bytes(64)) is None
    assert packet.embedding_numbers(b"\x18" * 64) is None


@pytest.mark.parametrize("seed", range(120))
def test_entropy_code_of_any_shape(seed: int) -> None:
    """What the encoder of the document writes, its decoder reads, with as many layers as there are."""
    draw = random.Random(seed)
    radius = [0, *range(1, 12)]
    tables = Tables(
        np.array(radius, np.int32),
        np.concatenate([[*[1 << r >> 1] * (2 * r), 65536 - 2 * r * (1 << r >> 1)] for r in radius]).astype(np.int32),
    )
    log_lanes = draw.randrange(9)
    shape = Lanes(1 << log_lanes, draw.randrange(16), draw.randrange(8), draw.randrange(log_lanes + 1))
    layers = [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    passes = []
    for _ in layers:
        scales = [draw.randrange(1, 12) for _ in range(draw.choice((0, 1, 5, 40, 300)))]
        passes.append([(draw.randint(-radius[k], radius[k]), k) for k in scales])
    chunks = Encoder(shape, tables).encode(passes, layers)
    for count in (1, 2, 3, 4):
        decoder = SymbolDecoder(chunks[:count], tables)
        assert decoder.shape == shape
        for layer, coded in zip(layers, passes, strict=True):
            if layer < count:
                assert decoder.read_pass([table for _, table in coded]) == [symbol for symbol, _ in coded]
    decoder.finish()
    with pytest.raises(RefusedError, match="half a word"):
        SymbolDecoder((*chunks[:3], b"\0"), tables)
    decoder = SymbolDecoder((*chunks[:3], chunks[3] + bytes(4 * shape.lanes) + b"\1\0"), tables)
    for coded in passes:
        decoder.read_pass([table for _, table in coded])
    with pytest.raises(RefusedError, match="words are left over"):
        decoder.finish()


@pytest.mark.parametrize(
    ("state", "reason"), [(1 << 16, None), ((1 << 16) + 5, "words are left over"), (1 << 17, "does not end where")]
)
def test_end_of_a_frame_without_symbols(state: int, reason: str | None) -> None:
    tables = Tables(np.zeros(1, np.int32), np.full(1, 65536, np.int32))
    encoder = Encoder(Lanes(1, 15, 0, 0), tables)
    encoder.states = [state]
    decoder = SymbolDecoder((encoder.head(),), tables)
    assert decoder.states == [state]
    assert decoder.read_pass([]) == []
    if reason is None:
        decoder.finish()
        return
    with pytest.raises(RefusedError, match=reason):
        decoder.finish()
