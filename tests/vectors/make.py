"""Writes the test vectors of docs/protocol.md and docs/bitstream.md: small files, and their index `vectors.json`.

`python -m tests.vectors.make` writes them anew. That is right only when the format or the default bundle has changed.
Keys, salts, numbers and times are fixed. The encoder network works in floating point, so another machine may write
other packets; a given packet decodes to the same integers everywhere.
"""

import json

from tests.vectors.collection import FOLDER, Vectors
from tests.vectors.messages import messages, next_version, pieces
from tests.vectors.packets import extremes, packets, sealed
from tests.vectors.refusals import damages, refusals


def write() -> None:
    """All vectors and their index."""
    vectors = Vectors()
    packets(vectors)
    extremes(vectors)
    messages(vectors)
    next_version(vectors)
    sealed(vectors)
    pieces(vectors)
    refusals(vectors)
    damages(vectors)
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
