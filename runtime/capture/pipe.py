"""Pictures through a pipe: what a camera's own program writes to its standard output."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Iterator

from edgesem.errors import EnvironmentMissing

_STOP_S = 1.0
"""How long after the program's end to wait for our own stop: who ends both may have told the program first."""


def piped_pictures(argv: list[str], size_bytes: int, stop: threading.Event) -> Iterator[bytes]:
    """Pictures of one size, until the stop. EnvironmentMissing if the program ends by itself."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            while not stop.is_set():
                data = process.stdout.read(size_bytes)
                if len(data) < size_bytes:
                    if stop.wait(_STOP_S):  # systemd, or a shell, has told it to end before us
                        return
                    raise EnvironmentMissing(
                        f"the camera's program has ended (exit code {process.wait()}); what it says itself stands "
                        f"above. To try it by hand: {shlex.join(argv)}"
                    )
                yield data
        finally:
            process.kill()
