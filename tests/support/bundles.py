"""Bundles that tests change."""

import shutil
from pathlib import Path

import numpy as np

from edgesem.bundle.bundle import DEFAULT, Bundle
from export.bundle.folder import seal


def quiet(stage: str, done: float) -> None:
    """Progress that nobody looks at."""


def with_file(bundle: Bundle, path: Path, name: str) -> Bundle:
    """`bundle` with one more file in it, sealed anew."""
    shutil.copy(path, bundle.folder / name)
    return seal(bundle.folder, bundle.manifest)


def another_bundle(folder: Path) -> Path:
    """The bundle that ships with another id, in `folder`: its tables are written in another way."""
    shutil.copytree(DEFAULT, folder, dirs_exist_ok=True)
    tables = folder / "tables.npz"
    before = tables.read_bytes()
    with np.load(tables) as arrays:
        known = dict(arrays)
    for write in (np.savez, np.savez_compressed):
        write(tables, **known)
        if tables.read_bytes() != before:
            break
    return seal(folder, Bundle.open(DEFAULT).manifest).folder
