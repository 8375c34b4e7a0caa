"""Runs here and under emulation (test_aarch64_kernel.py): codes messages, spoils them, and prints what came of it."""

import hashlib
import json
import platform

import numpy as np

from edgesem.bundle.bundle import Bundle
from edgesem.entropy import kernel, rans
from edgesem.errors import PacketError

MESSAGES = 90  # ten for each number of lanes
tables = Bundle.open().tables
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
print(
    json.dumps(
        {
            "machine": platform.machine(),
            "runtime": kernel.choose().runtime,
            "coded": coded.hexdigest(),
            "read": read.hexdigest(),
            "errors": len(errors),
            "messages": sorted(set(errors)),
        }
    )
)
