"""The code in docs/bitstream.md is what it says: a working decoder."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import edgesem
from edgesem.packet import copy_map
from edgesem.packet.packet import Packet
from tests.vectors.index import VECTORS, data_of, names

DOCUMENT = Path(__file__).parents[2] / "docs" / "bitstream.md"
LARGE = {"lanes_128", "lanes_256"}  # minutes in plain Python


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    """What the code blocks define, run one after the other, and a `codec` of the default bundle."""
    found: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    exec("\n".join(blocks), found)
    folder = edgesem.Bundle.open().folder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions: dict[str, Any] = {}

    def run(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if name not in sessions:
            sessions[name] = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        outputs = sessions[name].run(["mean", "scale"], inputs)
        return dict(zip(("mean", "scale"), outputs, strict=True))

    with np.load(folder / "tables.npz") as arrays:
        found["codec"] = found["Codec"](dict(arrays), run)
    return found


def decoded(code: dict[str, Any], name: str, layers: int) -> tuple[Any, Any, Any]:
    """Values and latent of the first layers of a vector, and the level of each of its positions."""
    packet = Packet.from_bytes(data_of(name))
    entry = next(entry for entry in VECTORS[name]["decoded"] if entry["layers"] == layers)
    reference, copied, region = None, None, packet.side_info.region
    box = None if region is None else (region.left, region.top, region.right, region.bottom, region.drop)
    size = -(-packet.height // 16), -(-packet.width // 16)
    levels = code["levels_of"](*size, packet.q, box)
    if (named := entry.get("reference")) is not None:
        _, latent, its_levels = decoded(code, named["vector"], named["layers"])
        before = Packet.from_bytes(data_of(named["vector"]))
        has_copies = before.side_info.reference is not None and before.side_info.reference.copies
        reference = latent, its_levels if has_copies else np.full(size, before.q)
        assert packet.side_info.reference is not None
        if (field := packet.motion) is not None:
            latent = code["moved"](latent, field)
            its_levels = code["moved"](its_levels, field)
            reference = latent, its_levels
        if copies := packet.side_info.reference.copies:
            copied = copy_map.from_bytes(copies, *size)
            levels = np.where(copied, its_levels, levels)
    values, latent = code["codec"].decode(
        packet.chunks[:layers], packet.total_layers, packet.width, packet.height, packet.q, box, reference, copied
    )
    return values, latent, levels


@pytest.mark.parametrize("name", [name for name in names("packet") if name not in LARGE])
def test_code_of_the_document_decodes(code: dict[str, Any], name: str) -> None:
    for entry in VECTORS[name]["decoded"]:
        values, latent, _ = decoded(code, name, entry["layers"])
        assert hashlib.sha256(np.ascontiguousarray(values, "<i2").tobytes()).hexdigest() == entry["grid_sha256"]
        assert hashlib.sha256(np.ascontiguousarray(latent, "<f4").tobytes()).hexdigest() == entry["latent_sha256"]


@pytest.mark.parametrize("name", [name for name in names("damaged") if VECTORS[name]["reference"] is None])
def test_code_of_the_document_refuses(code: dict[str, Any], name: str) -> None:
    packet = Packet.join([Packet.from_bytes(data_of(message)) for message in VECTORS[name]["messages"]])
    with pytest.raises(code["PacketError"]):
        code["codec"].decode(packet.chunks, packet.total_layers, packet.width, packet.height, packet.q)
