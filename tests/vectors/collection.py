"""Collection of the test vectors that are written: their files, and their entries in `vectors.json`."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import edgesem
from edgesem.codec.latent import Latent, by_position, levels_of
from edgesem.codec.options import PackOptions
from edgesem.entropy import rans
from edgesem.files import read_picture
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import NO_SIDE_INFO, SideInformation
from runtime.capture.frame import PHOTOS

FOLDER = Path(__file__).parent
BASE = "edgesem/v1/home/gate/main"
STREAM_KEY = bytes(range(32))
SALT = bytes(range(0xA0, 0xB0))
DEVICE_SEED = bytes(range(0x40, 0x60))
EPOCH, TIME_MS = 3, 1_767_225_600_000  # 2026-01-01 00:00:00 UTC


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
        options = PackOptions(epoch=EPOCH, frame=frame, time_ms=time_ms, **more)
        return self.codec.pack(latent, quality=quality, options=options)

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
    shape = int.from_bytes(packet.chunks[0][:2], "little") if packet.first_layer == 0 and packet.chunks[0] else None
    side_info: SideInformation = packet.side_info
    reference = side_info.reference
    side = {
        "reference": reference
        and {**asdict(reference), **{key: getattr(reference, key).hex() or None for key in ("copies", "motion")}},
        "embedding": side_info.embedding.hex() or None,
        "region": None if side_info.region is None else asdict(side_info.region),
        "time_high": side_info.time_high,
        "event": None if side_info.event is None else asdict(side_info.event),
        "detail": None if side_info.detail is None else asdict(side_info.detail),
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
