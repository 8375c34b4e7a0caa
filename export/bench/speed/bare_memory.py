"""Bare memory: what Python, its libraries and one network take in a process of their own, with no daemon around them.

The program is `python -m export.bench.speed.bare_memory PART WIDTH HEIGHT [BUNDLE]`: it loads the part, uses it once,
says so, and stays until its standard input is closed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgesem.errors import LinkError
from export.bench.speed.processes import rss_bytes

PARTS = ("python", "libraries", "encoder", "decoder")


def bare_memory(width: int, height: int, bundle: Path | None = None) -> dict[str, int]:
    """`bare_python_rss_bytes`: an interpreter that waits. `bare_libraries_rss_bytes`: with NumPy and ONNX Runtime.
    `bare_encoder_rss_bytes`, `bare_decoder_rss_bytes`: with a codec that has analyzed, or drawn, one picture.

    LinkError if one of the processes ends before it is so far.
    """
    chosen = () if bundle is None else (str(bundle),)
    return {f"bare_{part}_rss_bytes": _measured(part, str(width), str(height), *chosen) for part in PARTS}


def _measured(part: str, *arguments: str) -> int:
    program = [sys.executable, "-m", "export.bench.speed.bare_memory", part, *arguments]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            process.kill()
            raise LinkError(f"the process that measures the memory of {part} has ended: see its message above")
        return rss_bytes(process.pid)


def _load(part: str, width: int, height: int, bundle: str | None) -> object:
    """What a process of this part has in memory."""
    if part == "python":
        return None
    import numpy as np

    import edgesem

    if part == "libraries":
        import onnxruntime

        return onnxruntime
    from edgesem.codec.latent import Latent
    from edgesem.entropy.schedule import CHANNELS, STRIDE

    codec = edgesem.load(bundle)
    if part == "encoder":
        codec.analyze(np.zeros((height, width, 3), np.uint8))
    else:
        sides = -(-height // STRIDE), -(-width // STRIDE)
        codec.synthesize(Latent(np.zeros((CHANNELS, *sides), np.float32), width, height))
    return codec


if __name__ == "__main__":
    _part, _width, _height, *_bundle = sys.argv[1:]
    _held = _load(_part, int(_width), int(_height), next(iter(_bundle), None))
    print("loaded", flush=True)
    sys.stdin.read()
