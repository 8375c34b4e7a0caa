"""systemd's own check of unit files."""

import re
import subprocess
from pathlib import Path


def complaints(*units: Path) -> list[str]:
    """What systemd-analyze has to say of units, without what it says of programs and units that are not there."""
    argv = ["systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", *map(str, units)]
    lines = subprocess.run(argv, capture_output=True, text=True).stderr.splitlines()
    return [line for line in lines if re.search(r"Unknown|Invalid|Failed to parse|not absolute", line)]
