"""Output of commands that run until they are stopped: events as lines of JSON on stdout, the log on stderr."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any

_printing = threading.Lock()


def print_json_line(event: Mapping[str, Any]) -> None:
    """Print one event as one line of JSON, at once. Thread-safe."""
    with _printing:
        sys.stdout.write(json.dumps(event, allow_nan=False) + "\n")
        sys.stdout.flush()


def log_to_stderr() -> None:
    """Send the program's log, from level INFO on, to stderr."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
