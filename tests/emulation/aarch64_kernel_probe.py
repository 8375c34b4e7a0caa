"""Runs here and under emulation (test_aarch64_kernel.py): codes messages, spoils them, walks the context model, and
decides what a sender would.

It prints what came of it.
"""

import hashlib
import json
import platform

import numpy as np

from edgesem.bundle.bundle import KEY, REFERENCE, Bundle
from edgesem.bundle.pixel_input import feed_of
from edgesem.codec import budget, motion
from edgesem.codec.coder import Coder
from edgesem.codec.compiled_context import compile_networks
from edgesem.codec.context import ContextModel
from edgesem.codec.copying import Differences
from edgesem.codec.latent import Latent
from edgesem.entropy import kernel, rans
from edgesem.entropy.schedule import CHANNELS, VALUE_LIMIT, CodedPositions
from edgesem.errors import PacketError

MESSAGES = 90  # ten for each number of lanes
bundle = Bundle.open()
tables = bundle.tables
coded, read, errors = hashlib.sha256(), hashlib.sha256(), []
for seed in range(MESSAGES):
    random = np.random.Generator(np.random.Philox(seed))
    scales = [random.integers(tables.first, 64, random.integers(0, 700)) for _ in range(4)]
    reach = [tables.radius[scale] // random.integers(1, 20, scale.size) for scale in scales]
    entries = [tables.entry(random.integers(-r, r + 1), scale) for r, scale in zip(reach, scales, strict=True)]
    chunks = rans.encode([[one] for one in entries], tables, 1 << seed % 9)
    coded.update(b"".join(chunks))
    for cut in (len(chunks[2]), random.integers(0, len(chunks[2]) + 1)):
        chunks[2] = chunks[2][:cut] + random.bytes(2 * (len(chunks[2]) - cut) // 3)
        try:
            decoder = rans.Decoder(chunks, tables)
            for scale in scales:
                read.update(decoder.read(scale).astype("<i4").tobytes())
            decoder.finish()
        except PacketError as error:
            errors.append(str(error))


def networks_of(names):
    """Compiled, or in ONNX Runtime, which is not where the compiled ones are."""
    files = [bundle.folder / name for name in names]
    if (compiled := compile_networks(files)) is not None:
        return compiled
    from edgesem.bundle.runner import OrtRunner

    return [OrtRunner(path) for path in files]


expected = hashlib.sha256()
for names in (KEY, REFERENCE):
    networks = networks_of(names)
    for seed in range(12):
        random = np.random.Generator(np.random.Philox(seed))
        shape, limit = random.integers(1, 13, 2), random.choice([30, VALUE_LIMIT])
        levels, had = random.integers(0, 256, (2, *shape)).astype(np.int32)
        reference = random.integers(-limit, limit + 1, (CHANNELS, *shape)).astype(np.float32)
        model = ContextModel(networks) if names is KEY else ContextModel(networks, reference, had)

        def fill(index, mean, scale, random=random, limit=limit):
            expected.update(mean.astype("<i4").tobytes() + scale.astype("<i4").tobytes())
            return mean + random.integers(-limit, limit + 1, mean.size).astype(np.float32)

        copied = None if names is KEY else random.random(shape) < 0.3
        model.walk(levels, 4, CodedPositions((int(shape[0]), int(shape[1])), copied)).values(fill)

coder = Coder(bundle, networks_of)
for seed in range(6):
    random = np.random.Generator(np.random.Philox(seed))
    height, width = random.integers(1, 9, 2).tolist()
    latents = [random.laplace(0, 0.5, (CHANNELS, height, width)).astype(np.float32) for _ in range(2)]
    known = coder.try_level(Latent(latents[0], 16 * width, 16 * height), 120, 4)
    trial = coder.try_level(Latent(latents[1], 16 * width, 16 * height), 100, 4, reference=known.decoded)
    expected.update(b"".join(known.code() + trial.code()) + trial.decoded.values.astype("<f4").tobytes())

decided = hashlib.sha256()
for seed in range(24):
    random = np.random.Generator(np.random.Philox(seed))
    height, width = random.integers(1, 21, 2).tolist()
    wanted, had, error, change = random.random((4, CHANNELS, height, width), np.float32) * np.float32(0.2)
    change *= random.random((height, width), np.float32) < 0.3
    levels = np.full((height, width), random.integers(256), np.int32)
    reached, noise = random.integers(0, 256, (height, width)).astype(np.int32), np.zeros((1, 1, 1), np.float32)
    differences = Differences(error**2, change**2, reached, noise, 200)
    copies = differences.copies(bundle.gain[levels[0, 0]][:, None, None], levels)
    decided.update(b"" if copies is None else copies.mask.tobytes() + copies.data)
    decided.update(budget.features(Latent(wanted, 16 * width, 16 * height), bundle.gain).astype("<f8").tobytes())
    blocks = -(-height // motion.BLOCK), -(-width // motion.BLOCK)
    best, field = np.full(blocks, 9e9, np.float32), np.zeros((*blocks, 2), np.int16)
    motion._match(30 * wanted, 30 * had, random.random(blocks) < 0.8, (1, -2), best, field)
    decided.update(best.astype("<f4").tobytes() + field.astype("<i2").tobytes())
    frame = random.integers(0, 256, (16 * height, 16 * width, 3)).astype(np.uint8)
    decided.update(b"".join(one.tobytes() for one in feed_of(frame, pixels=True).values()))
print(
    json.dumps(
        {
            "machine": platform.machine(),
            "runtime": kernel.choose().runtime,
            "coded": coded.hexdigest(),
            "read": read.hexdigest(),
            "expected": expected.hexdigest(),
            "decided": decided.hexdigest(),
            "errors": len(errors),
            "messages": sorted(set(errors)),
        }
    )
)
