"""Manifest of a bundle: read with bounds, and checked once, so that what comes after need not doubt it.

It comes from outside, with digests that its maker chose: right digests say nothing of what is in it.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from edgesem.errors import BundleError
from edgesem.packet.signature import signer

MANIFEST = "manifest.json"
MAX_FILES = 256
MAX_FILE_BYTES = 1 << 30  # of each; more than any device could load
_MAX_BYTES, _MAX_DEPTH = 1 << 20, 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", re.ASCII)  # no separator, nothing hidden, nothing odd
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KINDS = {"format": int, "version": int, "name": str, "target": str, "licence": str, "files": dict}


def read_manifest(folder: Path, required: Iterable[str], wanted_format: int) -> dict[str, Any]:
    """The manifest in a folder, if it holds together and every file has the digest that it says.

    File names are plain names, at most 256 of them. BundleError for a manifest or a file that is missing, damaged, too
    large or no file; for another format; for `required` files that it does not list; for a signature that is wrong.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(_text_of(path))
        _check(manifest)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"no bundle in {folder}: {error}; make one with edgesem export") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as a manifest: {error or type(error).__name__}") from error
    if manifest.get("format") != wanted_format:
        raise BundleError(
            f"{folder}: a bundle of format {manifest.get('format')}, this edgesem reads format {wanted_format}: export "
            "it again from its run"
        )
    files: dict[str, str] = manifest["files"]
    lacking = {name for name in required if name not in files}
    wrong = sorted(lacking | {name for name, digest in files.items() if _digest_or_none(folder / name) != digest})
    if wrong:
        raise BundleError(f"{folder}: {', '.join(wrong)} is not what the manifest says: copy it again")
    signer(manifest)
    return manifest


def digest_of(path: Path) -> str:
    """SHA-256 of a file of any size, in hex. OSError if it is not there, BundleError if it is no file."""
    hasher = hashlib.sha256()
    with _opened(path) as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.hexdigest()


def _digest_or_none(path: Path) -> str | None:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(f"{path} is larger than a file of a bundle can be, {MAX_FILE_BYTES >> 20} MB")
        return digest_of(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{path}: {error}") from error


def _text_of(path: Path) -> str:
    with _opened(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise BundleError(f"{path} is larger than {_MAX_BYTES} bytes: this is no manifest")
    return data.decode()


def _opened(path: Path) -> BinaryIO:
    """A file to read; BundleError for anything else: opening a pipe would wait for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise BundleError(f"{path} is no file")
    return path.open("rb")


def _check(manifest: Any) -> None:
    """ValueError unless all that programs rely on has the right types, and the rest can be shown and signed."""
    if not isinstance(manifest, dict):
        raise ValueError("it must be an object")
    for name, kind in _KINDS.items():
        if name in manifest and type(manifest[name]) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}")
    if "files" not in manifest or not 0 < len(manifest["files"]) <= MAX_FILES:
        raise ValueError(f"it must list 1 to {MAX_FILES} files")
    for name, digest in manifest["files"].items():
        if not _NAME.fullmatch(name) or name == MANIFEST:
            raise ValueError(f"{name[:100]!r} is no name of a file in a bundle")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError(f"the digest of {name} must be 64 hexadecimal digits")
    for name in ("name", "target", "licence"):
        if not str(manifest.get(name, "")).isprintable():
            raise ValueError(f"{name} must be printable")
    if _depth(manifest) > _MAX_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
    json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode()  # refuses NaN, and halves of characters


def _depth(value: Any) -> int:
    """How deep lists and objects lie in one another, without recursion."""
    depth, level = 0, [value]
    while level:
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1
    return depth
