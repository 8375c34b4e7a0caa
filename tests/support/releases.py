"""Releases for the boards of a stand: small, each of its own content."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from devices.board import Board
from devices.deployment.release import Release, _fingerprint
from tests.support.board_stand import bundle, pip_wheel, wheel

X86 = Board.load("generic-x86")
HEALTH_S = 60.0  # a bound for a busy machine; a sender that is well shows it in a second


def release(folder: Path, kind: str = "good", version: str = "0.0.2", requires: str = "", padding: int = 0) -> Release:
    # The bundle is laid in by hand: the real one is larger than all else together.
    made = Release.make([wheel(folder, kind, requires, version, padding), pip_wheel()], None, X86)
    content = {f"bundle/{path.name}": path for path in bundle(folder / "bundle").iterdir()}
    content["bundle/nonce"] = os.urandom(16)  # a release of its own, that the board has not had yet
    return remade(made, {**made.files, **content})


def prepared_cache(folder: Path, kind: str, own: Path) -> Path:
    """A cache of wheels in which all that `own` needs on boards of a kind is there already."""
    (folder / kind).mkdir(parents=True)
    for path in (own, pip_wheel()):
        shutil.copy(path, folder / kind)
    ready = f"complete-{hashlib.sha256(own.read_bytes()).hexdigest()[:12]}.json"
    (folder / kind / ready).write_text(json.dumps([own.name, pip_wheel().name]))
    return folder


def remade(old: Release, files: dict) -> Release:
    """The release with other files, and the manifest that fits them."""
    manifest = {name: _fingerprint(content) for name, content in files.items()}
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return replace(old, files=files, _manifest=manifest, version=f"{old.version.partition('-')[0]}-{digest[:10]}")
