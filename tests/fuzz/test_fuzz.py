"""The fuzz harness runs: 500 inputs for all targets, or $EDGESEM_FUZZ_SECONDS a target where that is set, as in CI."""

import io
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgesem.bundle.bundle import DEFAULT
from edgesem.bundle.manifest import MANIFEST
from edgesem.provenance import Provenance
from runtime.protocol.ack import Ack
from runtime.protocol.command import KINDS, Command
from runtime.protocol.piece import Piece
from runtime.protocol.state import State
from tests.support.publishing import birth, identity, plain

HARNESS = Path(__file__).parent / "harness.py"
MEMORY = Path("/dev/shm")
SECONDS = os.environ.get("EDGESEM_FUZZ_SECONDS")
TARGETS = ("packet", "sealed", "messages", "receiver", "topic", "cbor", "bundle", "texts") if SECONDS else ("all",)

pytestmark = pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: the extra `fuzz`")


def fuzz(target: str, folder: Path, *options: str) -> None:
    corpus, crashes = folder / f"{target}-corpus", folder / f"{target}-crashes"
    for made in (corpus, crashes):
        made.mkdir()
    for number, example in enumerate(examples()):
        (corpus / str(number)).write_bytes(example)
    limits = ["-rss_limit_mb=1024", "-timeout=60", f"-artifact_prefix={crashes}/"]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        run = subprocess.run(
            # The fuzzer counts the most memory that it had, and a child begins with its parent's. Not a grandchild.
            ["timeout", "900", sys.executable, str(HARNESS), target, *options, *limits, str(corpus)],
            capture_output=True,
            text=True,
            cwd=HARNESS.parents[2],
            env={**os.environ, "TMPDIR": scratch},
        )
    assert run.returncode == 0, run.stderr[-3000:]
    assert list(crashes.iterdir()) == []


def examples() -> list[bytes]:
    """One good message of each kind, for the fuzzer to spoil."""
    base = "edgesem/v1/a/b/c"
    who, born = identity(), birth(sealed=True)
    return [
        *(part.to_bytes() for part in plain(1).split()),
        plain(1, promised=True).to_bytes(),
        Piece.cut(plain(1, promised=True).to_bytes(), epoch=1, frame=1, offset=9, size_bytes=30).to_bytes(),
        Ack(1, 2, 3, 4, 5, 1).to_bytes(),
        *(Command(kind, pause_s=3.0).to_bytes() for kind in KINDS),
        State(True, 1, 2, 3, 0.1, 5, 6, 7, 8, 9, 10, 0.2).to_bytes(),
        born.to_bytes(who, base=base),
        f"{base}/pkt/0".encode(),
        (DEFAULT / MANIFEST).read_bytes()[:4000],
        json.dumps({"format": 3, "name": "n", "files": {"arrays.npz": "0" * 64}}).encode(),
        npy(np.arange(6, dtype=np.float32).reshape(2, 3)),
        b"P5 # a comment\n64 64\n255\n" + bytes(4096),
        Provenance(1, 2, 3, 4, 5, 6, 1.0, "bundle", "0" * 64).to_text().encode(),
    ]


def npy(array: np.ndarray) -> bytes:
    """An array as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("target", TARGETS)
def test_no_parser_raises_anything_but_its_own_error(target, tmp_path):
    fuzz(target, tmp_path, *(("-runs=500", "-seed=1") if not SECONDS else (f"-max_total_time={int(SECONDS)}",)))
