"""Bundles that tests change."""

import shutil
from pathlib import Path

from edgesem.bundle.bundle import Bundle
from export.bundle.pipeline import seal


def with_file(bundle: Bundle, path: Path, name: str) -> Bundle:
    """`bundle` with one more file in it, sealed anew."""
    shutil.copy(path, bundle.folder / name)
    return seal(bundle.folder, bundle.manifest)
