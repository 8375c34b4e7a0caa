"""Release: all files that a board needs to run one version of edgesem, without a network."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from devices.board import Board
from devices.units import unit_files
from edgesem.errors import UsageError

_MODULES = ("layout", "intake", "services", "probation", "main")
_ONBOARD = tuple(Path(__file__).parents[1] / "onboard" / f"{name}.py" for name in _MODULES)


@cache
def agent_source() -> bytes:
    """The modules of `devices.onboard` as one program, without the imports of each other that it then has inside."""
    parts = ["from __future__ import annotations\n"]
    for path in _ONBOARD:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("devices.", "__future__")):
                lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        parts.append("".join(lines))
    return "\n".join(parts).encode()


@dataclass(frozen=True)
class Release:
    """The files of one version for one kind of board."""

    version: str
    files: dict[str, Path | bytes]
    """Path below the release's folder on the board -> the file here, or its bytes."""
    system_packages: bool = False
    """Let the environment see the system's packages: TensorRT on a Jetson is one of them."""
    _manifest: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False)

    @classmethod
    def make(cls, wheels: Iterable[Path], bundle: Path | None, board: Board) -> Release:
        """The release of these wheels and this bundle for a board. Its version tells its content, to the byte."""
        files: dict[str, Path | bytes] = {f"wheels/{path.name}": path for path in wheels}
        ours = [name for name in files if name.startswith("wheels/edgesem-")]
        if len(ours) != 1 or not any(name.startswith("wheels/pip-") for name in files):
            raise UsageError(f"the wheels must hold one of edgesem and one of pip, found: {', '.join(files) or 'none'}")
        if bundle is not None:
            files |= {f"bundle/{path.name}": path for path in bundle_files(bundle)}
        files |= {f"units/{name}": data for name, data in unit_files(board).items()}
        files["agent.py"] = agent_source()
        manifest = {name: _fingerprint(content) for name, content in sorted(files.items())}
        content = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
        label = f"{ours[0].split('-')[1]}-{content[:10]}"
        return cls(label, files, "tensorrt" in board.run.runners, manifest)

    @property
    def manifest(self) -> bytes:
        """What the agent checks every file against."""
        return json.dumps(
            {"version": self.version, "system_packages": self.system_packages, "files": self._manifest}
        ).encode()

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(size for _, size in self._manifest.values())

    def blobs(self, only: Iterable[str] | None = None) -> dict[str, Path | bytes]:
        """SHA-256 -> content, of all files or of those named."""
        by_digest = {self._manifest[name][0]: content for name, content in self.files.items()}
        return by_digest if only is None else {digest: by_digest[digest] for digest in only if digest in by_digest}

    def write_tar(self, stream: Any, only: Iterable[str]) -> None:
        """Files by their SHA-256, as the agent receives them; the smallest first, so that a cut link loses least."""
        blobs = sorted(self.blobs(only).items(), key=lambda item: (content_bytes(item[1]), item[0]))
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for digest, content in blobs:
                entry = tarfile.TarInfo(digest)
                entry.size = content_bytes(content)
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                    tar.addfile(entry, file)

    def lay_out(self, folder: Path) -> None:
        """Write the release as the agent takes it from a card or a root file system."""
        (folder / "blobs").mkdir(parents=True)
        for digest, content in self.blobs().items():
            if isinstance(content, bytes):
                (folder / "blobs" / digest).write_bytes(content)
            else:
                shutil.copyfile(content, folder / "blobs" / digest)
        (folder / "agent.py").write_bytes(agent_source())
        (folder / "manifest.json").write_bytes(self.manifest)


class ReleaseMaker:
    """Makes a release once for each kind of Python that the boards turn out to have."""

    def __init__(self, make: Callable[[dict[str, Any]], Release]) -> None:
        self._make = make
        self._made: dict[tuple[Any, ...], Release] = {}
        self._lock = threading.Lock()

    def __call__(self, facts: dict[str, Any]) -> Release:
        key = tuple(facts.get(name) for name in ("arch", "python", "libc", "model"))
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(facts)
            return self._made[key]


def content_bytes(content: Path | bytes) -> int:
    """Size of a file's content, given as it is or by its path."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _fingerprint(content: Path | bytes) -> tuple[str, int]:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha256(data).hexdigest(), len(data)


def bundle_files(folder: Path) -> list[Path]:
    """The files of a bundle. BundleError if one is missing or altered."""
    from edgesem.bundle.bundle import Bundle
    from edgesem.bundle.manifest import MANIFEST

    bundle = Bundle.open(folder)  # a damaged bundle must not leave this machine
    names = [*bundle.files, MANIFEST]
    return [bundle.folder / name for name in names]
