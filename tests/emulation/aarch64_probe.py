"""Runs under emulation (test_aarch64.py): decodes packets of the other machine, and codes its own for it.

python aarch64_probe.py ROOT: ROOT holds the packages' folder `src`, packets in `in.json`; answers go to `out.json`.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "src"))

import numpy as np  # noqa: E402

import edgesem  # noqa: E402
from edgesem.packet.packet import Packet  # noqa: E402
from edgesem.packet.side_information import Reference, SideInformation  # noqa: E402


def digest_of(latent):
    return hashlib.sha256(np.ascontiguousarray(latent.values, "<f4").tobytes()).hexdigest()


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


def read(codec, packets):
    """What packets mean, in their order; one that refers to another, by that one's place, comes after it."""
    known, digests = [], []
    for packet in packets:
        named, reference = packet.side_info.reference, None
        if named is not None:
            earlier, its_own = known[named.frame]
            reference = codec.unpack(earlier.prefix(named.layers), its_own)
        known.append((packet, reference))
        digests.append(digest_of(codec.unpack(packet, reference)))
    return digests


def make(codec, count, seed, each=1, largest=190, refer=0):
    """Packets of `count` pictures, `each` of every one at its own quality and number of layers, and what they mean.

    The first is of the picture itself; for the others its latent is moved and strengthened, which needs no encoder.
    `refer` more follow, each of which refers to some layers of the one before.
    """
    entries = []
    for index, (height, width) in enumerate(sizes(count, seed, largest)):
        latent = codec.analyze(picture(1000 * seed + index, height, width))
        for turn in range(index * each, (index + 1) * each):
            step = turn % each
            values = np.roll(latent.values, (step, step // 3), (1, 2)) * np.float32(1 + step / 16)
            other = replace(latent, values=values)
            options = edgesem.PackOptions(layers=1 + turn % 4, frame=len(entries))
            packet, decoded = codec.pack_decoded(other, quality=(turn * 37 % 101) / 100, options=options)
            entries.append({"packet": packet.to_bytes().hex(), "sha256": digest_of(decoded)})
        reference = None
        for turn in range(index * refer, (index + 1) * refer if codec.has_reference else 0):
            layers = 1 + turn % len(packet.chunks)
            reference = codec.unpack(packet.prefix(layers), reference)
            side_info = SideInformation(reference=Reference(len(entries) - 1, layers))
            values = latent.values.copy()  # something has come into the picture
            values[:, : 1 + turn % 3] = np.roll(values, 2, 2)[:, : 1 + turn % 3]
            layers, frame = 1 + turn * 3 % 4, len(entries)
            options = edgesem.PackOptions(layers=layers, side_info=side_info, reference=reference, frame=frame)
            other = replace(latent, values=values)
            packet, decoded = codec.pack_decoded(other, quality=(turn * 53 % 101) / 100, options=options)
            entries.append({"packet": packet.to_bytes().hex(), "sha256": digest_of(decoded)})
    return entries


if __name__ == "__main__":
    codec = edgesem.load(precision="fp32")
    task = json.loads((root / "in.json").read_text())
    digests = read(codec, [Packet.from_bytes(bytes.fromhex(packet)) for packet in task["packets"]])
    made = make(codec, **task["make"])
    import platform

    answer = {"machine": platform.machine(), "numpy": np.__version__, "read": digests, "made": made}
    (root / "out.json").write_text(json.dumps(answer))
