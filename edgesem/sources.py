"""Digest of edgesem's own code: what every cache of measured figures depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sources_digest(folder: Path = Path(__file__).parent) -> str:
    """SHA-256, in hex, of all Python files in a folder and below; of the package edgesem, if none is named."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()
