"""Steps of an export: each is done once, timed, and skipped by `--resume` while nothing before it has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesem.bundle.manifest import MANIFEST, digest_of
from edgesem.files import write_whole

_STATE = "steps.json"

Value = dict[str, Any]


class Steps:
    """Work folder of an export, and the record of the steps that are done.

    A step's key is the digest of its own settings and of the key of the step before it, so a change redoes whatever
    comes after. A step that is redone finds only what the steps before it made: nothing of an earlier export stays.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.folder, self.files = folder, folder / "bundle"
        if not resume:
            shutil.rmtree(self.files, ignore_errors=True)
            (folder / _STATE).unlink(missing_ok=True)
        self.files.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float | str] = {}
        self._key = ""
        self._kept: set[str] = set()
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
            self._kept |= set(known["files"])
            return dict(known["value"])
        if not known or known["key"] != self._key:
            self._forget_the_rest()
        start, before = time.perf_counter(), self._digests()
        value = make()
        self.seconds[name] = round(time.perf_counter() - start, 3)
        made = {file: digest for file, digest in self._digests().items() if before.get(file) != digest}
        self._kept |= set(made)
        self._known[name] = {"key": self._key, "files": made, "value": value}
        write_whole(self.folder / _STATE, json.dumps(self._known).encode())
        return value

    def _forget_the_rest(self) -> None:
        """Drop what no step of this run has made or kept so far."""
        self._known = {name: known for name, known in self._known.items() if name in self.seconds}
        for path in self.files.iterdir():
            if path.name not in self._kept:
                path.unlink()

    def _digests(self) -> dict[str, str]:
        """Of every file but the manifest, which is written anew whenever the bundle is opened on the way."""
        return {path.name: digest_of(path) for path in self.files.iterdir() if path.name != MANIFEST}

    def _holds(self, files: dict[str, str]) -> bool:
        """Whether a step's files are there as it left them; one that a later step wrote over is that step's."""
        here = self._digests()
        later = [known["files"] for known in self._known.values()]
        for file, digest in files.items():
            if file not in here or here[file] not in {digest, *(made[file] for made in later if file in made)}:
                return False
        return True
