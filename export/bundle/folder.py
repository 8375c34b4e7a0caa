"""Folder of a bundle: sealed by its manifest, changed and replaced so that nobody finds half of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesem.bundle.bundle import Bundle
from edgesem.bundle.manifest import MANIFEST, digest_of
from edgesem.errors import InputError, UsageError
from edgesem.files import write_whole
from edgesem.packet.keys import Identity
from edgesem.packet.signature import signed


def check_replaceable(out: Path) -> None:
    """Raise InputError where something stands that is neither a bundle nor an empty folder: it would be lost."""
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is in the way and is no bundle: name another --out or remove it")


def check_signed(bundle: Bundle, identity: Identity | None) -> None:
    """Raise UsageError for a signed bundle where nobody signs what is made of it: it would lose its signature."""
    if "signature" in bundle.manifest and identity is None:
        raise UsageError(f"{bundle.folder} is signed, and what is made of it would not be: name your key with --sign")


def work_folder(out: Path) -> Path:
    """Folder in which the bundle `out` is made."""
    out = Path(os.path.realpath(out))
    return out.with_name(f".{out.name}.export")


def seal(folder: Path, draft: Mapping[str, Any], identity: Identity | None = None) -> Bundle:
    """Write the manifest over the files as they are now, signed if somebody signs, and open the bundle."""
    files = {path.name: digest_of(path) for path in _files_of(folder) if path.name != MANIFEST}
    write_whole(folder / MANIFEST, _manifest(draft, files, identity))
    return Bundle.open(folder)


def change(bundle: Bundle, made: Mapping[str, Path], entries: Mapping[str, Any], identity: Identity | None) -> Bundle:
    """Put files into a bundle, and entries into its manifest, which is sealed again; returns the bundle as it is then.

    made: name in the bundle -> the file to copy. Whatever goes wrong, such as a full disk, the bundle stays as it was.
    Raises OSError if a file cannot be written.
    """
    folder = bundle.folder
    files = bundle.files | {name: digest_of(path) for name, path in made.items()}
    parts = {name: folder / f".{name}.part" for name in (*made, MANIFEST)}
    try:
        for name, path in made.items():
            shutil.copyfile(path, parts[name])
        write_whole(parts[MANIFEST], _manifest({**bundle.manifest, **entries}, files, identity))
        for name, part in parts.items():  # only names change from here on
            os.replace(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return Bundle.open(folder)


def copied(folder: Path, target: Path) -> Path:
    """A copy of a folder's files in the new folder `target`, which is returned. OSError for the first that fails."""
    target.mkdir()
    for path in _files_of(folder):
        shutil.copyfile(path, target / path.name)
    return target


def _files_of(folder: Path) -> list[Path]:
    """The files of a bundle's folder, without what a `change` that was killed has left behind."""
    return sorted(path for path in folder.iterdir() if not (path.name.startswith(".") and path.suffix == ".part"))


def _manifest(draft: Mapping[str, Any], files: Mapping[str, str], identity: Identity | None) -> bytes:
    kept = {key: value for key, value in draft.items() if key not in ("files", "signature")}
    manifest = {**kept, "files": dict(sorted(files.items()))}
    return (json.dumps(manifest if identity is None else signed(manifest, identity), indent=1) + "\n").encode()


def replace_folder(work: Path, out: Path, *, copy: bool) -> None:
    """Put the finished folder, or a copy, in place of `out`; whoever looks sees the old bundle or the new one."""
    out = Path(os.path.realpath(out))  # a link stays a link
    if copy:
        fresh = out.with_name(f".{out.name}-new")
        shutil.rmtree(fresh, ignore_errors=True)
        work = copied(work, fresh)
    os.chmod(work, 0o755)
    old = out.with_name(f".{out.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(work, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
