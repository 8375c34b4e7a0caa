"""Receiver process of the bench: the command `edgesem receive` for one shard, whose pictures are counted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesem.errors import LinkError
from runtime.bench.fleet.process_use import descendants_of

_READY_S = 180.0


@dataclass(frozen=True)
class Shown:
    """One picture that a receiver has shown."""

    stream: str
    epoch: int
    frame: int
    promised: bool
    delay_s: float
    """From capture to decoded."""
    received_s: float
    """When its event was read here, in monotonic seconds."""

    @property
    def captured_s(self) -> float:
        """When it was captured, in monotonic seconds."""
        return self.received_s - self.delay_s


class ReceiverProcess:
    """`edgesem receive` with these arguments, its log in `folder`. Its pictures are in `shown`; LinkError if it does
    not become ready."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, password: str | None, clock: Any) -> None:
        self.name, self._clock = name, clock
        self.shown: list[Shown] = []
        self.done: dict[str, Any] = {}
        """The figures that it gave at its end."""
        self._ready = threading.Event()
        self._log_path = folder / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if key != "STATE_DIRECTORY"}
        environment |= {"XDG_STATE_HOME": str(folder)} | ({} if password is None else {"EDGESEM_PASSWORD": password})
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgesem", "receive", *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Wait until it is. LinkError if it ends before, or takes too long."""
        if not self._ready.wait(_READY_S) or self._process.poll() is not None:
            said = self._log_path.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise LinkError(f"{self.name} did not start: {''.join(said) or 'it said nothing'}")

    @property
    def pid(self) -> int:
        """Of the receiver itself."""
        return self._process.pid

    def decoders(self) -> list[int]:
        """Its decoder processes."""
        return descendants_of(self.pid)

    def kill(self) -> None:
        """Kill it without a word."""
        self._process.kill()
        self._finish()

    def end(self) -> None:
        """Ask it to end, and wait."""
        self._process.terminate()
        self._finish()

    def _finish(self) -> None:
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError, KeyError):
                event = json.loads(line)
                kind = event["event"]
                if kind == "picture":
                    names = ("stream", "epoch", "frame", "promised", "delay_s")
                    fields = {name: event[name] for name in names}
                    self.shown.append(Shown(received_s=self._clock(), **fields))
                elif kind == "ready":
                    self._ready.set()
                elif kind == "done":
                    self.done = event
        self._ready.set()
