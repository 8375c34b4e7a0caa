"""Digest of the program: what is kept of earlier runs, steps and measured figures counts for one program only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_ENDINGS = (".py", ".c", ".h")
_LIBRARIES = ("numpy", "onnxruntime", "pillow", "torch")


@cache
def program_digest(folders: Sequence[str] = ("edgesem",), root: Path = _ROOT) -> str:
    """SHA-256, in hex, over all sources in folders below `root`, with their places, and over the libraries' versions.

    All sources, and not only those that seem to matter: a list of these is forgotten where it is most needed.
    """
    seen = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in (root / folder).rglob("*") if path.suffix in _ENDINGS):
            data = path.read_bytes()
            seen.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode() + data)
    for name in _LIBRARIES:
        seen.update(f"{name} {_version(name)}\n".encode())
    return seen.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
