"""Numbers out of /sys and out of vcgencmd, in SI units; what is missing or no number is None, never zero."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path

_MAX_BYTES = 4096  # no file of sysfs that we read is longer


class Board:
    """The board's files and commands. `root` is `/`, or a recorded tree in tests.

    In a recorded tree, what `vcgencmd NAME` prints stands in `ROOT/vcgencmd/NAME`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def glob(self, pattern: str) -> list[Path]:
        """Paths below the root that fit a pattern, sorted."""
        return sorted(self.root.glob(pattern))

    def vcgencmd(self, name: str) -> str | None:
        """What `vcgencmd NAME` prints, or None where there is no such command or it fails."""
        if self.root != Path("/"):
            return text(self.root / "vcgencmd" / name)
        try:
            run = subprocess.run(["vcgencmd", name], capture_output=True, timeout=2, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return run.stdout.decode("utf-8", "replace")

    def model(self) -> str | None:
        """The board's name as the device tree has it."""
        said = text(self.root / "proc/device-tree/model")
        return said.strip("\0 \n") if said else None


def text(path: Path) -> str | None:
    """The content of a small file, stripped; None if it cannot be read."""
    try:
        # Not open(): its buffers cost more than the reading, twenty times a second.
        file = os.open(path, os.O_RDONLY)
        try:
            return os.read(file, _MAX_BYTES).decode("utf-8", "replace").strip()
        finally:
            os.close(file)
    except OSError:
        return None


def number(path: Path, unit: float = 1.0) -> float | None:
    """The number in a file, times `unit`; None if it cannot be read or is no finite number."""
    said = text(path)
    try:
        value = float(said) if said else math.nan
    except ValueError:
        return None
    return value * unit if math.isfinite(value) else None


def denied(path: Path) -> bool:
    """Whether a file is there but not for us to read."""
    return path.exists() and not os.access(path, os.R_OK)
