"""What a command says: its result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from edgesem.errors import EdgesemError

log = Console(stderr=True)
"""For progress, warnings and errors: stderr, so that stdout holds the result alone."""


def emit(result: Mapping[str, Any], as_json: bool, render: Callable[[Mapping[str, Any]], RenderableType]) -> None:
    """Print `result` on stdout: as one JSON object, or as what `render` makes of it for a human."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(result), indent=2, allow_nan=False) + "\n")
    else:
        Console().print(render(result))


def fail(error: Exception, exit_code: int, as_json: bool) -> int:
    """Report `error` as one red line on stderr, for machines also as JSON on stdout, and return `exit_code`."""
    message = str(error) or type(error).__name__
    log.print(Text(f"error: {message}", style="bold red"), soft_wrap=True)
    if as_json:
        # Typer hangs private marks of its own on an exception.
        public = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        details = public if isinstance(error, EdgesemError) else {}
        body = {"type": type(error).__name__, "message": message, "exit_code": exit_code, **details}
        sys.stdout.write(json.dumps(_plain({"error": body}), indent=2, allow_nan=False) + "\n")
    return exit_code


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy scalars as numbers, paths as text, infinity and NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, without importing it
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, PurePath) else value
