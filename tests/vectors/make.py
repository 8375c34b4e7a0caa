"""Writes the test vectors of docs/protocol.md and docs/bitstream.md: small files, and their index `vectors.json`.

`python tests/vectors/make.py` writes them anew. That is right only when the format or the default bundle has changed.
Keys, salts, numbers and times are fixed. The encoder network works in floating point, so another machine may write
other packets; a given packet decodes to the same integers everywhere.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import edgesem
from edgesem.codec.latent import Latent, by_position, levels_of
from edgesem.entropy import rans
from edgesem.files import read_picture
from edgesem.packet.keys import Identity
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from edgesem.packet.side_information import NO_SIDE_INFO, Reference, Region, SideInformation
from edgesem.semantics.embedding import SemanticHead
from edgesem.semantics.embedding import to_bytes as embedding_bytes
from runtime.capture.frame import PHOTOS
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.command import Command
from runtime.protocol.state import State

FOLDER = Path(__file__).parent
BASE = "edgesem/v1/home/gate/main"
STREAM_KEY = bytes(range(32))
SALT = bytes(range(0xA0, 0xB0))
DEVICE_SEED = bytes(range(0x40, 0x60))
EPOCH, TIME_MS = 3, 1_767_225_600_000  # 2026-01-01 00:00:00 UTC
VECTOR = bytes(range(64))  # of a watch command


class Recorder:
    """Notes the symbols that the entropy decoder reads, pass by pass, while it is entered."""

    def __enter__(self) -> "Recorder":
        self.passes: list[np.ndarray] = []
        self._read = read = rans.Decoder.read

        def reading(decoder: Any, scale: np.ndarray) -> np.ndarray:
            entries = read(decoder, scale)
            self.passes.append((entries - decoder._tables.centre[scale]).astype("<i2"))
            return entries

        rans.Decoder.read = reading  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        rans.Decoder.read = self._read  # type: ignore[method-assign]


class Vectors:
    """The vectors written so far."""

    def __init__(self) -> None:
        self.codec = edgesem.load(precision="fp32")
        self.entries: list[dict[str, Any]] = []
        self.latents: dict[tuple[str, int], Latent] = {}

    def picture(self, name: str, left: int, top: int, width: int, height: int) -> Latent:
        """The latent of a part of a photograph."""
        part = read_picture(PHOTOS / name)[top : top + height, left : left + width]
        return self.codec.analyze(np.ascontiguousarray(part))

    def pack(self, latent: Latent, frame: int, quality: float, **more: Any) -> Packet:
        """A packet of the one stream and epoch that all vectors are of."""
        time_ms = (TIME_MS + 500 * frame) % 2**32
        return self.codec.pack(latent, quality=quality, epoch=EPOCH, frame=frame, time_ms=time_ms, **more)

    def write(self, name: str, kind: str, about: str, data: bytes, suffix: str, **expected: Any) -> None:
        """One file and its entry."""
        file = f"{name}.{suffix}"
        (FOLDER / file).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entry = {"name": name, "kind": kind, "about": about, "file": file, "size_bytes": len(data), "sha256": digest}
        self.entries.append(entry | expected)

    def packet(self, name: str, about: str, packet: Packet, decode: Iterable[int] | None = None) -> None:
        """A packet, and what its first layers decode to, from 1 to all if `decode` does not say how many."""
        count = len(packet.chunks)
        decoded = [self.decoded(name, packet.prefix(k)) for k in decode or range(1, count + 1)]
        self.write(name, "packet", about, packet.to_bytes(), "es", **described(packet), decoded=decoded)

    def decoded(self, name: str, packet: Packet) -> dict[str, Any]:
        """What a packet decodes to; a reference must have been decoded before."""
        named, reference, where = packet.side_info.reference, None, {}
        if named is not None:
            vector = next(e["name"] for e in self.entries if e.get("header", {}).get("frame") == named.frame)
            reference = self.latents[vector, named.layers]
            where = {"reference": {"vector": vector, "layers": named.layers}}
        with Recorder() as recorder:
            latent = self.codec.unpack(packet, reference)
        self.latents[name, len(packet.chunks)] = latent
        values = np.ascontiguousarray(latent.values, "<f4")
        levels = levels_of(*values.shape[1:], packet.q, packet.side_info.region)
        grid = np.rint(8 * values * by_position(self.codec.bundle.gain, levels)).astype("<i2")
        return {
            "layers": len(packet.chunks),
            **where,
            "symbols_per_pass": [part.size for part in recorder.passes],
            "symbols_sha256": hashlib.sha256(b"".join(part.tobytes() for part in recorder.passes)).hexdigest(),
            "shape": list(grid.shape),
            "grid_sha256": hashlib.sha256(grid.tobytes()).hexdigest(),
            "grid_first": grid[:, 0, 0].tolist()[:8],
            "latent_sha256": hashlib.sha256(values.tobytes()).hexdigest(),
            "picture_mean": self.codec.synthesize(latent).mean((0, 1)).round(2).tolist(),
        }


def described(packet: Packet) -> dict[str, Any]:
    """What stands in a packet beside its symbols."""
    shape = int.from_bytes(packet.chunks[0][:2], "little") if packet.first_layer == 0 else None
    side_info: SideInformation = packet.side_info
    side = {
        "reference": None if side_info.reference is None else asdict(side_info.reference),
        "embedding": side_info.embedding.hex() or None,
        "region": None if side_info.region is None else asdict(side_info.region),
        "size_bytes": side_info.size_bytes,
    }
    header = {
        "sealed": False,
        "promised": packet.promised,
        "side_information": side_info != NO_SIDE_INFO,
        "bundle_id": packet.bundle_id,
        "epoch": packet.epoch,
        "frame": packet.frame,
        "time_ms": packet.time_ms,
        "width": packet.width,
        "height": packet.height,
        "q": packet.q,
        "first_layer": packet.first_layer,
        "carried_layers": len(packet.chunks),
        "total_layers": packet.total_layers,
        "crc32": int.from_bytes(packet.to_bytes()[20:24], "little"),
    }
    lanes = None
    if shape is not None:
        at, log_rows, log_width = shape >> 4 & 15, shape >> 8 & 15, shape >> 12
        lanes = {"lanes": 1 << (shape & 15), "at": at, "log_rows": log_rows, "log_width": log_width}
    chunks = [{"size_bytes": len(chunk), "sha256": hashlib.sha256(chunk).hexdigest()} for chunk in packet.chunks]
    return {
        "topic": f"{BASE}/pkt/{packet.first_layer}",
        "header": header,
        "side_information": side,
        "chunks": chunks,
        "lanes": lanes,
    }


def packets(vectors: Vectors) -> None:
    """Keyframes, inter frames, layers, regions, lanes."""
    small = vectors.picture("08_crossing.jpg", 200, 250, 64, 64)
    key = vectors.pack(small, 1, 0.5)
    vectors.packet("key_64", "A keyframe of 64x64 pixels in four layers; one lane.", key)
    base, *above = key.split()
    vectors.packet("key_64_layer0", "Its base layer as a message of its own.", base)
    for part in above:
        name = f"key_64_layer{part.first_layer}"
        vectors.write(name, "layer", "One more layer of it, alone.", part.to_bytes(), "es", **described(part))
    rest = replace(key, first_layer=1, chunks=key.chunks[1:])
    vectors.write("key_64_rest", "layer", "Its layers 1 to 3 in one message.", rest.to_bytes(), "es", **described(rest))
    for name, messages, joined, layers in (
        ("join_two_messages", ["key_64_layer0", "key_64_rest"], "key_64", 4),
        ("join_any_order", ["key_64_layer2", "key_64_layer0", "key_64_layer3", "key_64_layer1"], "key_64", 4),
        ("join_with_a_gap", ["key_64_layer3", "key_64_layer0", "key_64_layer1"], "key_64", 2),
        ("join_base_missing", ["key_64_layer1", "key_64_layer2"], None, 0),
    ):
        expected = {"messages": messages, "same_as": joined, "layers": layers}
        vectors.entries.append({"name": name, "kind": "reassembly", "about": "Messages of one frame."} | expected)
    promised = replace(key, promised=True)
    vectors.packet("key_64_promised", "The same with the flag PROMISED: all layers in one message.", promised, [4])

    street = vectors.picture("05_street_night.jpg", 100, 100, 121, 90)
    vectors.packet("key_odd_size", "121x90 pixels: 8x6 positions, 6 is no multiple of 4.", vectors.pack(street, 2, 0.6))
    vectors.packet("key_two_layers", "Coded with two layers only.", vectors.pack(street, 3, 0.6, layers=2))
    vectors.packet("key_lowest", "The coarsest quality, q 0.", vectors.pack(small, 4, 0.0))
    vectors.packet("key_finest", "The finest quality, q 255.", vectors.pack(small, 5, 1.0))

    crowd = vectors.picture("11_football.jpg", 100, 120, 160, 112)
    region = SideInformation(region=Region(2, 1, 6, 4, 90))
    about = "Side information: a region of interest. Finer in columns 2 to 6 and rows 1 to 4."
    vectors.packet("key_region", about, vectors.pack(crowd, 6, 0.6, side_info=region))
    outside = SideInformation(region=Region(0, 3, 255, 255, 255))
    about = "A region that goes beyond the picture, and a drop below quality 0."
    vectors.packet("key_region_clipped", about, vectors.pack(street, 7, 0.5, side_info=outside))
    meaning = SideInformation(embedding=embedding_bytes(SemanticHead(vectors.codec.bundle).look(street)))
    vectors.packet("key_embedding", "Side information: an embedding.", vectors.pack(street, 8, 0.4, side_info=meaning))

    before, after = (vectors.picture(name, 300, 150, 160, 96) for name in ("13_parking_1.jpg", "14_parking_2.jpg"))
    first = vectors.pack(before, 20, 0.5)
    vectors.packet("inter_key", "A keyframe that the next vectors refer to.", first)
    refer = SideInformation(reference=Reference(20, 4))
    second = vectors.pack(after, 21, 0.5, side_info=refer, reference=vectors.latents["inter_key", 4])
    vectors.packet("inter_1", "An inter frame that refers to all layers of inter_key.", second)
    everything = SideInformation(Reference(21, 2), meaning.embedding, Region(1, 1, 4, 3, 60))
    third = vectors.pack(after, 22, 0.7, side_info=everything, reference=vectors.latents["inter_1", 2])
    vectors.packet("inter_2", "An inter frame that refers to two layers of inter_1; all side information.", third)
    still = SideInformation(reference=Reference(22, 4))
    fourth = vectors.pack(after, 23, 0.7, side_info=still, reference=vectors.latents["inter_2", 4])
    vectors.packet("inter_3", "The same picture once more; its reference has a region.", fourth)

    busy, dark = (read_picture(PHOTOS / name) for name in ("08_crossing.jpg", "05_street_night.jpg"))
    large = vectors.codec.analyze(np.concatenate([busy, dark[:, :256]], axis=1))
    for frame, name, quality in ((30, "lanes_128", 0.8), (31, "lanes_256", 1.0)):
        packet = vectors.pack(large, frame, quality)
        vectors.packet(name, "768x512 pixels, coded with many lanes.", packet, [1, 2, 4])
    trial = vectors.codec.trial(crowd, 200)
    with patch.object(rans.LaneTermination, "choose", return_value=rans.LaneTermination(6, 2, 2)):
        chunks = rans.encode(trial.entries, trial.tables, 16)
    packet = replace(vectors.pack(crowd, 32, 200 / 255), chunks=tuple(chunks))
    about = "Lanes that no encoder of today chooses: 16, ending from pass 6 on, at last 4."
    vectors.packet("lanes_16", about, packet)


def sealed(vectors: Vectors) -> None:
    """What is sealed or signed with the stream's key."""
    seal = Seal(STREAM_KEY, stream=BASE, salt=SALT)
    keys = {"stream_key": STREAM_KEY.hex(), "salt": SALT.hex(), "stream": BASE}
    for name, plain in (("sealed_layer0", "key_64_layer0"), ("sealed_promised", "key_64_promised")):
        data = seal.seal((FOLDER / f"{plain}.es").read_bytes())
        derived = {"packet_key": seal._key.hex(), "nonce": seal._nonce(bytearray(data[:20])).hex()}
        about = f"The vector {plain}, sealed."
        vectors.write(
            name, "sealed", about, data, "es", **keys, **derived, associated_data=data[:20].hex(), opens_to=plain
        )
    for name, plain, topic in (("signed_ack", "ack_kept", "ack"), ("signed_command", "command_pause", "cmd")):
        data = seal.sign((FOLDER / f"{plain}.cbor").read_bytes(), f"{BASE}/{topic}")
        more = {"message_key": seal._sign_key.hex(), "topic": f"{BASE}/{topic}", "payload": plain}
        vectors.write(name, "signed", f"The vector {plain} with its tag.", data, "bin", **keys, **more)


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
    forged = bytearray(data)
    forged[-1] ^= 1
    vectors.write("birth_forged", "refused", "The same with one bit of its signature changed.", bytes(forged), "cbor")

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


def refusals(vectors: Vectors) -> None:
    """Bytes that must be refused, each for one reason; their checksums are right unless it says otherwise."""
    good = (FOLDER / "key_64_layer0.es").read_bytes()

    def wrong(changed: dict[int, int], body: bytes = bytes(8)) -> bytes:
        head = bytearray(good[:20])
        for position, value in changed.items():
            head[position] = value
        return bytes(head) + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body

    side = {1: 0x14}
    for name, about, data in (
        ("refused_short", "23 bytes.", good[:23]),
        ("refused_checksum", "A wrong checksum.", good[:-1] + bytes([good[-1] ^ 1])),
        ("refused_magic", "A wrong first byte.", wrong({0: 0xE4})),
        ("refused_version", "Version 2.", wrong({1: 0x20})),
        ("refused_sealed", "Flag SEALED, where the stream has no key.", wrong({1: 0x11})),
        ("refused_flag", "Flag bit 3.", wrong({1: 0x18})),
        ("refused_width", "Width 0.", wrong({14: 0, 15: 0})),
        ("refused_height", "Height 4097.", wrong({16: 0x01, 17: 0x10})),
        ("refused_layer_bits", "Bit 6 of the layer byte.", wrong({19: 0x40})),
        ("refused_layer_count", "Two layers carried of one.", wrong({19: 0x04})),
        ("refused_first_layer", "The first layer is not among the total.", wrong({19: 0x01})),
        ("refused_chunk_length", "A chunk longer than the packet.", wrong({19: 0x14}, b"\x03\x00ab")),
        ("refused_side_empty", "Flag SIDE and a block of no bytes.", wrong(side, bytes(9))),
        ("refused_side_kind", "Side information of kind 9.", wrong(side, b"\x03\x09\x01a" + bytes(8))),
        ("refused_side_order", "Kind 2 twice.", wrong(side, b"\x06\x02\x01a\x02\x01b" + bytes(8))),
        ("refused_side_size", "A reference of one byte.", wrong(side, b"\x03\x01\x01a" + bytes(8))),
        ("refused_side_layer", "Side information with layer 1.", wrong({1: 0x14, 19: 0x31}, b"\x03\x02\x01a")),
    ):
        with suppress(edgesem.EdgesemError):
            Packet.from_bytes(data)
            raise AssertionError(f"{name} was not refused")
        vectors.write(name, "refused", about, data, "bin")


def write() -> None:
    """All vectors and their index."""
    vectors = Vectors()
    packets(vectors)
    messages(vectors)
    sealed(vectors)
    refusals(vectors)
    bundle = vectors.codec.bundle
    index = {
        "bundle": {"id": bundle.id, "name": bundle.manifest["name"], "digest": bundle.digest},
        "serialisation": {
            "symbols_sha256": "int16 little-endian, all coded symbols in decoding order, pass after pass",
            "grid_sha256": "int16 little-endian, [96, h, w] row-major: decoded values in 1/8 steps",
            "latent_sha256": "float32 little-endian, [96, h, w] row-major: decoded latent in the encoder's units",
        },
        "vectors": vectors.entries,
    }
    (FOLDER / "vectors.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    write()
