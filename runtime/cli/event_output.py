"""Output of commands that run until they are stopped: events as lines of JSON on stdout, the log on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from edgesem.cli.console import plain_json
from runtime.process.log_lines import PlainFormatter
from runtime.process.signals import end_in_order

log = logging.getLogger(__name__)

_printing = threading.Lock()
_closed = threading.Event()


def print_json_line(event: Mapping[str, Any]) -> None:
    """Print one event as one line of JSON, at once; what JSON lacks (infinity, paths) is made plain. Thread-safe.

    It never raises, as it is called on the threads that do the work. When the reader of a pipe is gone, the command is
    told to end, as by SIGTERM; when a file cannot be written, as on a full disk, the command goes on without it.
    """
    line = json.dumps(plain_json(event), allow_nan=False, default=str) + "\n"
    with _printing:
        if _closed.is_set():
            return
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # ValueError: stdout was closed
            _closed.set()
            _drop_stdout()
            if isinstance(error, BrokenPipeError):
                end_in_order()
            else:
                log.warning("events can no longer be printed: %s", error)


def _drop_stdout() -> None:
    """Have what is left in the buffer go nowhere; Python would complain of it at its exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def log_to_stderr() -> None:
    """Send the program's log, from level INFO on, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
