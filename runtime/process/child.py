"""Child process: `python -m MODULE JOBFILE`, with a private job file in, JSON lines out, ended by closing its stdin.

A job file holds secrets, so only its path is on the command line and only its owner may read it. Closing standard input
is the one way to stop a child: it also happens by itself if the parent dies, so no child is left behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from edgesem.errors import EdgesemError, UsageError
from edgesem.packet.keys import write_private

Job = dict[str, Any]
_emitting = threading.Lock()


def read_job() -> Job:
    """The job that this process was started with."""
    if len(sys.argv) != 2:
        raise UsageError(f"{sys.argv[0]} is started by edgesem with the path of one job file")
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    if not isinstance(job, dict):
        raise UsageError(f"{sys.argv[1]} is not a job file")
    return job


def run_child(work: Callable[[Job], None]) -> int:
    """Do the work that this process was started for; the log goes to stderr. Returns the exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        work(read_job())
    except EdgesemError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def emit(**fields: object) -> None:
    """Send the parent one event, as a line of JSON; nothing happens if the parent is gone. Thread-safe."""
    with _emitting, contextlib.suppress(BrokenPipeError):
        print(json.dumps(fields), flush=True)


def stdin_closed() -> threading.Event:
    """An event that is set once the parent closes this process's standard input, or is no more."""
    closed = threading.Event()

    def watch() -> None:
        # os.read and not sys.stdin: a thread inside a buffered reader would abort the interpreter at its exit.
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        closed.set()

    threading.Thread(target=watch, name="stdin", daemon=True).start()
    return closed


class Child:
    """A running child; each of its JSON lines is put into `events` as (name, fields).

    When it ends, an event `exit` with its `code` and last `words` follows. Use it as a context manager.
    """

    def __init__(self, *, name: str, module: str, job: Job, folder: Path, events: queue.Queue[tuple[str, Job]]) -> None:
        self.name = name
        self._log_path = folder / f"{name}.log"
        job_path = folder / f"{name}.json"
        write_private(job_path, json.dumps(job))
        # Its own folder, so that a `runtime/` in the user's folder is not taken for ours; ours is named instead.
        ours = str(Path(__file__).resolve().parents[2])
        paths = [ours, *filter(None, [os.environ.get("PYTHONPATH")])]
        # ONNX Runtime from 1.29 on reports to its maker over the internet, unless this is set before it is loaded.
        settings = {"PYTHONPATH": os.pathsep.join(paths), "ORT_DISABLE_TELEMETRY": "1"}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(job_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, **settings},
                start_new_session=True,  # Ctrl-C is for the parent; it then ends its children in order
            )
        self._reader = threading.Thread(target=self._read, args=(events,), name=f"{name}.stdout", daemon=True)
        self._reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(timeout_s=5.0 if kind is None else 1.0)

    def ask_to_end(self) -> None:
        """Close the process's standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def finish(self, *, timeout_s: float) -> int:
        """Ask the process to end, and make it end if it does not; returns its exit code."""
        self.ask_to_end()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return self._process.returncode

    def _read(self, events: queue.Queue[tuple[str, Job]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict):
                    events.put((self.name, fields))
        code = self._process.wait()
        words = self._log_path.read_text("utf-8", errors="replace").strip().splitlines()
        events.put((self.name, {"event": "exit", "code": code, "words": words[-1] if words else "it said nothing"}))
