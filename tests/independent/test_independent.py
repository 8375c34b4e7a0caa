"""Every test vector, read by a reader that was written from the documents and uses nothing of the program."""

from __future__ import annotations

import ast
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.independent import messages, packet, seal
from tests.independent.latent import Bundle, draw
from tests.independent.packet import read_packet
from tests.independent.pieces import Assembly, read_piece
from tests.independent.rans import read_lanes
from tests.independent.reader import Frame, FrameDecoder
from tests.independent.reasons import REASONS
from tests.independent.refusal import RefusedError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "tests" / "vectors"
BUNDLE = ROOT / "edgesem" / "default_bundle"
DOCUMENT = json.loads((FOLDER / "vectors.json").read_text())
VECTORS: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in DOCUMENT["vectors"]}
BUNDLE_ID: int = DOCUMENT["bundle"]["id"]
BASE = "edgesem/v1/home/gate/main"

READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "ack": messages.read_ack,
    "state": messages.read_state,
    "command": messages.read_command,
    "birth": lambda data: messages.read_birth(data, BASE, bytes(range(32))),
}
TOPICS = {"ack": "ack", "state": "state", "command": "cmd", "birth": "birth"}


def names(*kinds: str) -> list[str]:
    """The vectors of these kinds."""
    return [name for name, vector in VECTORS.items() if vector["kind"] in kinds]


def data_of(name: str) -> bytes:
    """The bytes of a vector, compared with what the list says of them."""
    vector = VECTORS[name]
    data: bytes = (FOLDER / vector["file"]).read_bytes()
    assert len(data) == vector["size_bytes"]
    assert hashlib.sha256(data).hexdigest() == vector["sha256"]
    return data


def frame_of(*vectors: str) -> Frame:
    """The messages of a frame, put together."""
    frame = Frame()
    for name in vectors:
        frame.add(read_packet(data_of(name), BUNDLE_ID))
    return frame


def digest(array: Any, dtype: str) -> str:
    """SHA-256 of numbers in a little-endian form."""
    return hashlib.sha256(np.asarray(array).astype(dtype).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The bundle that ships."""
    if not (BUNDLE / "manifest.json").is_file():
        pytest.skip("the default bundle is missing")
    return Bundle(BUNDLE)


@pytest.fixture(scope="module")
def decoder(bundle: Bundle) -> FrameDecoder:
    """One decoder for all tests: it holds what inter frames refer to."""
    return FrameDecoder(bundle)


def decode_with_references(decoder: FrameDecoder, name: str, layers: int) -> Any:
    """Decode a packet vector, and what it refers to before."""
    entry = next(entry for entry in VECTORS[name]["decoded"] if entry["layers"] == layers)
    frame = frame_of(name)
    reference = entry.get("reference")
    assert (reference is None) == (frame.side.reference is None)
    if reference is not None:
        referred = frame_of(reference["vector"])
        key = (referred.common["epoch"], referred.common["frame"], reference["layers"])
        assert frame.side.reference is not None
        assert (frame.side.reference.frame, frame.side.reference.layers) == key[1:]
        if key not in decoder.held:
            decode_with_references(decoder, reference["vector"], reference["layers"])
    return decoder.decode(frame, layers)


def test_every_kind_is_covered() -> None:
    known = {
        "packet",
        "layer",
        "reassembly",
        "sealed",
        "signed",
        "ack",
        "state",
        "command",
        "birth",
        "piece",
        "assembly",
        "refused",
        "damaged",
    }
    assert {vector["kind"] for vector in VECTORS.values()} == known
    assert set(REASONS) == set(names("refused"))


@pytest.mark.parametrize("name", names("packet", "layer"))
def test_packet(name: str) -> None:
    vector, found = VECTORS[name], read_packet(data_of(name), BUNDLE_ID)
    flags = {key: getattr(found.header, key) for key in ("sealed", "promised", "side_information")}
    fields = {key: value for key, value in asdict(found.header).items() if key != "flags"}
    assert {**flags, **fields} == vector["header"]
    side = asdict(found.side)
    side["embedding"] = side["embedding"] and side["embedding"].hex()
    if side["reference"] is not None:
        assert not side["reference"].pop("of_bundle")
        for key in ("copies", "motion"):
            side["reference"][key] = side["reference"][key].hex() or None
    assert side == vector["side_information"]
    assert [
        {"size_bytes": len(chunk), "sha256": hashlib.sha256(chunk).hexdigest()} for chunk in found.chunks
    ] == vector["chunks"]
    assert packet.check_topic(vector["topic"], found.header) == BASE
    lanes = asdict(read_lanes(found.chunks[0])) if found.header.first_layer == 0 and found.chunks[0] else None
    assert lanes == vector["lanes"]


@pytest.mark.parametrize(
    ("name", "layers"), [(name, entry["layers"]) for name in names("packet") for entry in VECTORS[name]["decoded"]]
)
def test_decoded(decoder: FrameDecoder, name: str, layers: int) -> None:
    expected = next(entry for entry in VECTORS[name]["decoded"] if entry["layers"] == layers)
    found = decode_with_references(decoder, name, layers)
    assert [len(symbols) for symbols in found.symbols] == expected["symbols_per_pass"]
    assert digest([symbol for symbols in found.symbols for symbol in symbols], "<i2") == expected["symbols_sha256"]
    assert list(found.values.shape) == expected["shape"]
    assert found.values[:8, 0, 0].tolist() == expected["grid_first"]
    assert digest(found.values, "<i2") == expected["grid_sha256"]
    assert found.latent.dtype == np.float32
    assert digest(found.latent, "<f4") == expected["latent_sha256"]
    frame = frame_of(name)
    if max(frame.size) <= 256:  # the large ones take seconds each and show nothing new
        picture = draw(decoder.bundle, found, frame.size)
        assert picture.shape == (3, frame.size[1], frame.size[0])
        assert picture.mean(axis=(1, 2)).tolist() == pytest.approx(expected["picture_mean"], abs=0.1)


@pytest.mark.parametrize("name", names("reassembly"))
def test_reassembly(decoder: FrameDecoder, name: str) -> None:
    vector = VECTORS[name]
    frame = frame_of(*vector["messages"])
    assert len(frame.run()) == vector["layers"]
    if vector["same_as"] is None:
        with pytest.raises(RefusedError, match="no base layer"):
            decoder.decode(frame)
        return
    entries = VECTORS[vector["same_as"]]["decoded"]
    expected = next(entry for entry in entries if entry["layers"] == vector["layers"])
    assert digest(decoder.decode(frame).latent, "<f4") == expected["latent_sha256"]


@pytest.mark.parametrize("name", names("sealed"))
def test_sealed(name: str) -> None:
    vector, data = VECTORS[name], data_of(name)
    salt = bytes.fromhex(vector["salt"])
    keys = seal.derive(bytes.fromhex(vector["stream_key"]), salt, vector["stream"])
    assert keys.packet.hex() == vector["packet_key"]
    assert seal.nonce_of(data, salt).hex() == vector["nonce"]
    assert data[:20].hex() == vector["associated_data"]
    assert packet.checksum(data) == packet.read_header(data).crc32
    opened = seal.open_packet(data, keys)
    assert opened == data_of(vector["opens_to"])
    assert not read_packet(opened, BUNDLE_ID).header.sealed
    with pytest.raises(RefusedError, match="sealed"):
        read_packet(data, BUNDLE_ID)
    with pytest.raises(RefusedError, match="not sealed"):
        seal.open_packet(opened, keys)
    for place in (2, 6, 10, 14, 18, 24, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(RefusedError, match="seal"):
            seal.open_packet(bytes(changed), keys)


@pytest.mark.parametrize("name", names("signed"))
def test_signed(name: str) -> None:
    vector, data = VECTORS[name], data_of(name)
    keys = seal.derive(bytes.fromhex(vector["stream_key"]), bytes.fromhex(vector["salt"]), vector["stream"])
    assert keys.message.hex() == vector["message_key"]
    payload = seal.open_message(data, vector["topic"], keys.message)
    assert payload == data_of(vector["payload"])
    other = VECTORS[vector["payload"]]
    read = fields_of_piece if other["kind"] == "piece" else READERS[other["kind"]]
    assert read(payload) == other["fields"]
    for changed, topic in ((data[:-1] + bytes([data[-1] ^ 1]), vector["topic"]), (data, vector["topic"] + "s")):
        with pytest.raises(RefusedError, match="tag"):
            seal.open_message(changed, topic, keys.message)


def fields_of_piece(data: bytes) -> dict[str, Any]:
    """What stands in a piece, bytes in hex."""
    piece = read_piece(data)
    return {**asdict(piece), "data": piece.data.hex()}


@pytest.mark.parametrize("name", names("piece"))
def test_piece(name: str) -> None:
    vector = VECTORS[name]
    assert fields_of_piece(data_of(name)) == vector["fields"]
    assert packet.split_topic(vector["topic"]) == (BASE, "pkt/piece")


@pytest.mark.parametrize("name", names("assembly"))
def test_assembly(name: str) -> None:
    vector, assembly = VECTORS[name], Assembly()
    given = [assembly.add(read_piece(data_of(message))) for message in vector["messages"]]
    whole = [one for one in given if one is not None]
    assert whole == ([] if vector["gives"] is None else [data_of(vector["gives"])])
    assert all(read_packet(one, BUNDLE_ID).header.promised for one in whole)


@pytest.mark.parametrize("name", names(*READERS))
def test_message(name: str) -> None:
    vector, data = VECTORS[name], data_of(name)
    found = READERS[vector["kind"]](data)
    assert found == vector["fields"]
    assert list(found) == list(vector["fields"])
    assert packet.split_topic(vector["topic"]) == (vector.get("base", BASE), TOPICS[vector["kind"]])
    for bad in (data + b"\0", data[:-1], b"", b"\xd9\xd9\xf7" + data):
        with pytest.raises(RefusedError):
            READERS[vector["kind"]](bad)


def refuse(vector: dict[str, Any], data: bytes) -> None:
    """Read it as the vector says; it is expected to raise."""
    kind, topic = vector["as"], vector.get("topic", "")
    if kind in READERS:
        READERS[kind](data)
    elif kind == "piece":
        read_piece(data)
    elif kind == "packet":
        found = read_packet(data, BUNDLE_ID, vector.get("most_pixels", packet.DEFAULT_PIXELS))
        if topic:
            packet.check_topic(topic, found.header)
    else:
        keys = seal.derive(bytes.fromhex(vector["stream_key"]), bytes.fromhex(vector["salt"]), vector["stream"])
        _ = seal.open_packet(data, keys) if kind == "sealed" else seal.open_message(data, topic, keys.message)


@pytest.mark.parametrize("name", names("refused"))
def test_refused(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        refuse(VECTORS[name], data_of(name))
    assert caught.value.reason == REASONS[name]


@pytest.mark.parametrize("name", names("damaged"))
def test_damaged(decoder: FrameDecoder, name: str) -> None:
    """The messages are good, and the frame is refused when it is decoded."""
    vector = VECTORS[name]
    frame = frame_of(*vector["messages"])
    if (reference := vector["reference"]) is not None:
        decode_with_references(decoder, reference["vector"], reference["layers"])
    with pytest.raises(RefusedError) as caught:
        decoder.decode(frame)
    expected = "damaged" if reference is None else "symbols" if name == "damaged_copied" else "reference"
    assert caught.value.reason == expected


def test_bundle(bundle: Bundle) -> None:
    bundle.check_files()
    assert bundle.id() == BUNDLE_ID
    assert bundle.digest() == DOCUMENT["bundle"]["digest"] == VECTORS["birth"]["fields"]["bundle_digest"]


def test_checksum_and_topics() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926
    header = read_packet(data_of("key_64_layer1")).header
    for topic in (f"{BASE}/pkt/0", f"{BASE}/pkt/1/", "edgesem/v1/a/b/pkt/1", "edgesem/v2/home/gate/main/pkt/1"):
        with pytest.raises(RefusedError, match="topic"):
            packet.check_topic(topic, header)
    with pytest.raises(RefusedError, match="bundle"):
        read_packet(data_of("key_64"), BUNDLE_ID ^ 1)
    assert read_packet(data_of("key_64_promised"), BUNDLE_ID ^ 1).header.promised
    frame = frame_of("key_64_layer0")
    with pytest.raises(RefusedError, match="contradiction"):
        frame.add(read_packet(data_of("key_odd_size")))


def test_reference_that_is_not_held(bundle: Bundle) -> None:
    with pytest.raises(RefusedError, match="not held"):
        FrameDecoder(bundle).decode(frame_of("inter_1"))


def test_damage_is_refused(bundle: Bundle) -> None:
    """Whatever stands in a packet with a right checksum, nothing but a refusal comes of it."""
    data, random, outcomes = data_of("key_64"), np.random.default_rng(7), set()
    for _ in range(40):
        changed = bytearray(data[: random.integers(20, len(data) + 1)]) if random.random() < 0.5 else bytearray(data)
        changed[random.integers(19, len(changed))] ^= 1 << random.integers(8)
        if len(changed) >= 24:
            changed[20:24] = packet.checksum(bytes(changed)).to_bytes(4, "little")
        try:
            frame = Frame()
            frame.add(read_packet(bytes(changed)))
            FrameDecoder(bundle).decode(frame)
            outcomes.add("decoded")
        except RefusedError as error:
            outcomes.add(error.reason)
    assert {"damaged", "chunks"} <= outcomes


ALLOWED = {
    *("__future__", "ast", "bisect", "collections", "dataclasses", "functools", "hashlib", "hmac", "itertools", "json"),
    *("math", "nacl", "numpy", "onnxruntime", "pathlib", "pytest", "random", "re", "struct", "tests.independent"),
    *("typing", "unicodedata", "zlib"),
}


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_of_the_program_is_imported(path: Path) -> None:
    """Read from the source: only what is listed is imported, and nothing by its name at run time."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules = [node.module or ""]
        for module in modules:
            parts = module.split(".")
            assert parts[0] not in {"edgesem", "export", "runtime", "devices"}
            assert ".".join(parts[:2] if parts[0] == "tests" else parts[:1]) in ALLOWED
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called not in {"__import__", "import_module", "exec", "eval", "run_path", "run_module"}
