"""The steps of an export: each is done once, timed, and skipped by `--resume` while nothing before it has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesem.bundle import digest_of
from edgesem.files import write_whole

_STATE = "steps.json"

Value = dict[str, Any]


class Steps:
    """A work folder in which an export grows, and what of it is done.

    A step's key is the digest of its own settings and of the key of the step before it, so a change redoes whatever
    comes after.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.files = folder, folder / "bundle"
        self.files.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float | str] = {}
        self._key = ""
        try:
            self._known: dict[str, Any] = json.loads((folder / _STATE).read_text())
        except (OSError, ValueError):
            self._known = {}

    def run(self, name: str, settings: Any, make: Callable[[], Value]) -> Value:
        """The value of a step: kept from an earlier run if its key and its files are the same, else made now."""
        joined = json.dumps([self._key, name, settings], sort_keys=True, default=str)
        self._key = hashlib.sha256(joined.encode()).hexdigest()
        known = self._known.get(name)
        if known and known["key"] == self._key and self._holds(known["files"]):
            self.seconds[name] = "kept"
            return dict(known["value"])
        start, before = time.perf_counter(), self._digests()
        value = make()
        self.seconds[name] = round(time.perf_counter() - start, 3)
        made = {file: digest for file, digest in self._digests().items() if before.get(file) != digest}
        self._known[name] = {"key": self._key, "files": made, "value": value}
        write_whole(self.folder / _STATE, json.dumps(self._known).encode())
        return value

    def _digests(self) -> dict[str, str]:
        return {path.name: digest_of(path) for path in self.files.iterdir()}

    def _holds(self, files: dict[str, str]) -> bool:
        """Whether a step's files are there as it left them; one that a later step wrote over is that step's."""
        here = self._digests()
        later = [known["files"] for known in self._known.values()]
        for file, digest in files.items():
            if file not in here or here[file] not in {digest, *(made[file] for made in later if file in made)}:
                return False
        return True
