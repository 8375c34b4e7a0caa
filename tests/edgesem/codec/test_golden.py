"""Packets of the default bundle and what they mean, fixed: every machine and every later version must read the same.

`python tests/edgesem/codec/test_golden.py` writes them anew, which is right only when the default bundle or the format
has changed.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

import edgesem
from edgesem.files import read_picture
from edgesem.packet.packet import Packet

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"

GOLDEN = Path(__file__).parents[2] / "golden" / "default_bundle.json"
CASES = [("02_church.jpg", (96, 160), 0.3), ("04_lunch.jpg", (176, 121), 0.6), ("07_bridge_dusk.jpg", (64, 64), 1.0)]


def digest(codec, packet) -> str:
    """SHA-256 of the decoded latent: exact arithmetic up to here; a picture's last bit may differ between machines."""
    return hashlib.sha256(np.ascontiguousarray(codec.unpack(packet).values, "<f4").tobytes()).hexdigest()


def test_golden_packets_decode_to_the_same_latents_as_ever():
    codec = edgesem.load()
    for entry in json.loads(GOLDEN.read_text()):
        packet = Packet.from_bytes(bytes.fromhex(entry["packet"]))
        for layers, wanted in enumerate(entry["latent_sha256"], 1):
            assert digest(codec, packet.prefix(layers)) == wanted


def write() -> None:
    codec = edgesem.load()
    entries = []
    for name, (height, width), quality in CASES:
        piece = np.ascontiguousarray(read_picture(PHOTOS / name)[100 : 100 + height, 150 : 150 + width])
        packet = codec.pack(codec.analyze(piece), quality=quality)
        digests = [digest(codec, packet.prefix(layers)) for layers in range(1, len(packet.chunks) + 1)]
        entries.append({"photo": name, "packet": packet.to_bytes().hex(), "latent_sha256": digests})
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    write()
