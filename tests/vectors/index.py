"""Index of the test vectors, as `vectors.json` lists them."""

import hashlib
import json
from typing import Any

from tests.vectors.collection import FOLDER

INDEX = json.loads((FOLDER / "vectors.json").read_text())
VECTORS: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in INDEX["vectors"]}


def names(*kinds: str) -> list[str]:
    """The vectors of these kinds."""
    return [name for name, vector in VECTORS.items() if vector["kind"] in kinds]


def data_of(name: str) -> bytes:
    """The bytes of a vector."""
    data = (FOLDER / VECTORS[name]["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == VECTORS[name]["sha256"]
    return data
