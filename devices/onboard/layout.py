"""Layout of the board's folders, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

Report = Callable[[str], None]
_LOCK_S = 15.0  # what a transfer that was cut needs to notice it, on a busy board
MAX_MANIFEST_BYTES = 4 << 20
MAX_BLOB_BYTES = 1 << 30
DIGEST = re.compile(r"[0-9a-f]{64}")
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,80}")


class Refused(Exception):
    """The step cannot be done; the message says why and what to do."""


class Busy(Refused):
    """Another deployment holds the lock."""


class Layout:
    """Paths of the board's folders, or of the same below a prefix."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.base = os.path.join(self.root, "opt/edgesem")
        self.blobs = os.path.join(self.base, "blobs")
        self.releases = os.path.join(self.base, "releases")
        self.current = os.path.join(self.base, "current")
        self.state = os.path.join(self.base, "state.json")
        self.pending = os.path.join(self.base, "pending.json")
        self.staged = os.path.join(self.base, "configuration.json")
        self.etc = os.path.join(self.root, "etc/edgesem")
        self.units = os.path.join(self.root, "etc/systemd/system")
        self.run = os.path.join(self.root, "run/edgesem")

    def release(self, version: str) -> str:
        """Folder of a release."""
        return os.path.join(self.releases, version)

    def complete(self) -> list[str]:
        """Installed releases, the oldest first."""
        found = glob.glob(os.path.join(glob.escape(self.releases), "*", "release.json"))
        return [os.path.basename(os.path.dirname(path)) for path in sorted(found, key=os.path.getmtime)]

    def running(self) -> str | None:
        """The version that `current` names, or None."""
        try:
            version = os.path.basename(os.readlink(self.current))
        except OSError:
            return None
        return version if version in self.complete() else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One deployment at a time. Raises Busy if another one does not end soon."""
        os.makedirs(self.base, exist_ok=True)
        with open(os.path.join(self.base, "lock"), "w") as file:
            end = time.monotonic() + _LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise Busy("another deployment to this board is under way: wait until it has ended") from None
                    time.sleep(0.1)
            yield


def write_whole(path: str, data: bytes, mode: int = 0o644) -> None:
    """Put `data` in a file so that nobody ever sees half of it, not even after a power cut."""
    part = path + ".part"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    sync_folder(os.path.dirname(path))


def exchange(path: str, data: bytes, mode: int = 0o644, keep: bool = False) -> None:
    """Give a file this content, if it has another, and with `keep` leave its old one beside it.

    Content that lies beside it comes back by a new name alone: on a full disk nothing could be written.
    """
    beside = _beside(path)
    if holds(path, data):
        return
    if holds(beside, data):
        os.replace(beside, path)
        sync_folder(os.path.dirname(path))
        return
    if keep:
        with contextlib.suppress(OSError):  # there is nothing to keep, or the file system has no second names
            os.link(path, beside, follow_symlinks=False)
    write_whole(path, data, mode)


def _beside(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.before")


def remove_kept(*folders: str) -> None:
    """Delete what `exchange` has left in folders, and in those right below them."""
    for folder in map(glob.escape, folders):
        for pattern in (".*.before", "*/.*.before"):
            for path in glob.glob(os.path.join(folder, pattern)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


def sync_folder(folder: str) -> None:
    """Make the disk remember which files a folder has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def holds(path: str, data: bytes) -> bool:
    """Whether a file is there and has exactly this content."""
    try:
        with open(path, "rb") as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False


def load(path: str) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is none."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def checked(manifest: Any) -> dict[str, Any]:
    """`manifest` if it can be trusted to name files below one folder only; Refused if not."""
    try:
        version, files = manifest["version"], manifest["files"]
        good = isinstance(version, str) and bool(_VERSION.fullmatch(version)) and isinstance(files, dict)
        for path, (digest, size) in files.items():
            parts = path.split("/")
            good = good and all(part not in ("", ".", "..") for part in parts) and "\0" not in path
            good = good and bool(DIGEST.fullmatch(digest)) and type(size) is int and 0 <= size <= MAX_BLOB_BYTES
    except (KeyError, TypeError, ValueError, AttributeError):
        good = False
    if not good:
        raise Refused("the release's manifest is damaged: build it again")
    return dict(manifest)


def run_program(argv: list[str], env: dict[str, str] | None = None) -> None:
    """Run a program to its end; Refused with its last words if it failed."""
    run = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    if run.returncode:
        lines = run.stdout.decode("utf-8", "replace").strip().splitlines()
        raise Refused(f"{os.path.basename(argv[0])} failed: {' / '.join(lines[-3:]) or run.returncode}")
