"""Board state from /sys, /proc and vcgencmd, in SI units: numbers of files, temperature, throttling.

What is missing or no number is None, never zero.
"""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from typing import Any

_MAX_BYTES = 4096  # no file of sysfs that we read is longer
_THROTTLE_FLAGS = ("undervoltage", "frequency capped", "throttled", "soft temperature limit")
_PLAUSIBLE_C = (-40.0, 130.0)


class Sysfs:
    """Files and commands of a board. `root` is `/`, or a recorded tree in tests.

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
        name = text(self.root / "proc/device-tree/model")
        return name.strip("\0 \n") if name else None


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
    content = text(path)
    try:
        value = float(content) if content else math.nan
    except ValueError:
        return None
    return value * unit if math.isfinite(value) else None


def denied(path: Path) -> bool:
    """Whether a file is there but not for us to read."""
    return path.exists() and not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def temperature_c(sysfs: Sysfs) -> float | None:
    """The hottest thermal zone, in degrees Celsius."""
    seen = []
    for zone in sysfs.glob("sys/class/thermal/thermal_zone*"):
        degrees = number(zone / "temp", 1e-3)
        if degrees is not None and _PLAUSIBLE_C[0] < degrees < _PLAUSIBLE_C[1]:
            seen.append(degrees)
    return max(seen, default=None)


def throttle_bits(sysfs: Sysfs) -> int | None:
    """A Raspberry Pi's throttle word: bits 0 to 3 now, 16 to 19 since boot; None where nothing tells."""
    word = sysfs.vcgencmd("get_throttled") or text(sysfs.root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if not word:
        return None
    digits = word.strip().removeprefix("throttled=").removeprefix("0x")
    try:
        return int(digits, 16)
    except ValueError:
        return None


def throttling(before: int | None, after: int | None) -> dict[str, Any] | None:
    """What the throttle word says of a run between two looks at it; None where the board tells nothing.

    A run is not valid when a flag stands now, or was raised in between.
    """
    if before is None or after is None:
        return None
    now = [name for bit, name in enumerate(_THROTTLE_FLAGS) if after >> bit & 1]
    risen = [name for bit, name in enumerate(_THROTTLE_FLAGS) if (after & ~before) >> (16 + bit) & 1]
    return {"word": f"0x{after:x}", "now": now, "during": risen, "valid": not now and not risen}
