"""Runs under emulation (tests/test_aarch64.py): decodes packets of the other machine, and codes its own for it.

python aarch64_probe.py ROOT: ROOT holds the packages' folder `src`, packets in `in.json`; answers go to `out.json`.
"""

import hashlib
import json
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "src"))

import numpy as np  # noqa: E402

import edgesem  # noqa: E402
from edgesem.packet import Packet  # noqa: E402


def digest(codec, packet):
    return hashlib.sha256(np.ascontiguousarray(codec.unpack(packet).values, "<f4").tobytes()).hexdigest()


def picture(seed, height, width):
    """A picture of waves and noise that every machine draws alike: integers only."""
    random = np.random.Generator(np.random.Philox(seed))
    i, j = np.mgrid[:height, :width]
    slope = random.integers(1, 9, (3, 3))
    waves = [(a * i + b * j) // (1 + c) % 256 for a, b, c in slope]
    noise = random.integers(-20, 21, (height, width, 3))
    return np.clip(np.abs(np.stack(waves, 2) - 128) * 2 + noise, 0, 255).astype(np.uint8)


def sizes(count, seed=1, largest=190):
    random = np.random.Generator(np.random.Philox(seed))
    return [tuple(int(side) for side in random.integers(33, largest, 2)) for _ in range(count)]


def make(codec, count, seed, each=1, largest=190):
    """Packets of `count` pictures, `each` of every one at its own quality and number of layers, and what they mean."""
    entries = []
    for index, (height, width) in enumerate(sizes(count, seed, largest)):
        latent = codec.analyze(picture(1000 * seed + index, height, width))
        for turn in range(index * each, (index + 1) * each):
            packet = codec.pack(latent, quality=(turn * 37 % 101) / 100, layers=1 + turn % 4)
            entries.append({"packet": packet.to_bytes().hex(), "sha256": digest(codec, packet)})
    return entries


if __name__ == "__main__":
    codec = edgesem.load(precision="fp32")
    task = json.loads((root / "in.json").read_text())
    read = [digest(codec, Packet.from_bytes(bytes.fromhex(packet))) for packet in task["packets"]]
    made = make(codec, **task["make"])
    import platform

    answer = {"machine": platform.machine(), "numpy": np.__version__, "read": read, "made": made}
    (root / "out.json").write_text(json.dumps(answer))
