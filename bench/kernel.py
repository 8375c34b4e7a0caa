"""Times the entropy coder with its compiled kernel and in plain Python, in turn: `python bench/kernel.py [PICTURE]...`.

One JSON object. `encode` and `decode` are the entropy coder alone, on the message of a packet; `pack` and `unpack` the
whole steps of the codec. Milliseconds of processor time, medians of all rounds of all pictures (768x512; the demo's, if
none is named); `times` is the median of each round's own ratio.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

import edgesem
from edgesem.entropy import kernel, rans
from edgesem.files import read_picture

PHOTOS = Path(__file__).parents[1] / "runtime/photos"


def stages_of(codec: edgesem.Codec, picture: Path, budget_bytes: int) -> dict[str, Callable[[], object]]:
    """The work on one picture, by name."""
    frame = np.asarray(Image.fromarray(read_picture(picture)).resize((768, 512)))
    latent = codec.analyze(frame)
    with patch.object(rans, "encode", wraps=rans.encode) as encode:
        packet = codec.pack(latent, budget_bytes=budget_bytes)
    message = encode.call_args.args
    scales: list[Any] = []
    read = rans.Decoder.read
    with patch.object(rans.Decoder, "read", lambda self, scale: scales.append(scale) or read(self, scale)):
        codec.unpack(packet)

    def decode() -> None:
        decoder = rans.Decoder(packet.chunks, message[1])
        for scale in scales:
            decoder.read(scale)
        decoder.finish()

    return {
        "encode": lambda: rans.encode(*message),
        "decode": decode,
        "pack": lambda: codec.pack(latent, budget_bytes=budget_bytes),
        "unpack": lambda: codec.unpack(packet),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Entropy coder: compiled kernel against plain Python, in one run.")
    parser.add_argument("pictures", type=Path, nargs="*", default=sorted(PHOTOS.glob("*.jpg"))[:4])
    parser.add_argument("--bytes", type=int, default=4000, help="size of the packets (4000)")
    parser.add_argument("--rounds", type=int, default=15, help="for each picture (15)")
    options = parser.parse_args()
    compiled = kernel.load()
    if compiled is None:
        raise SystemExit(f"there is no compiled kernel: {kernel.choose().reason}")
    ways = {"python_ms": None, "compiled_ms": compiled}
    rounds: dict[str, list[dict[str, float]]] = {}
    with edgesem.load() as codec:
        for picture in options.pictures:
            for name, work in stages_of(codec, picture, options.bytes).items():
                for number in range(options.rounds + 1):
                    taken = {}
                    for way, loops in ways.items():
                        with patch.object(kernel, "load", lambda loops=loops: loops):
                            start = time.process_time()
                            work()
                            taken[way] = 1e3 * (time.process_time() - start)
                    if number > 0:  # what is made once is not what a packet costs
                        rounds.setdefault(name, []).append(taken)
    figures = {
        name: {way: round(median(one[way] for one in every), 3) for way in ways}
        | {"times": round(median(one["python_ms"] / one["compiled_ms"] for one in every), 1)}
        for name, every in rounds.items()
    }
    print(json.dumps({"pictures": len(options.pictures), "bytes": options.bytes, **figures}))


if __name__ == "__main__":
    main()
