"""Access to boards: the ssh commands that run a program, or a step of the agent, on one of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from devices.deployment.release import agent_source
from devices.shell import spelled
from edgesem.errors import UsageError

_HOST = re.compile(r"(?:[A-Za-z_][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.:_-]*")
_START = (
    "import sys;sys.version_info>=(3,10) or sys.exit('edgesem needs Python 3.10 or later, this is '+sys.version[:6]);"
    "exec(compile(sys.stdin.buffer.read({size}),'agent','exec'))"
)


@dataclass(frozen=True)
class Access:
    """How boards are reached."""

    port: int | None = None
    identity: Path | None = None
    config: Path | None = None
    """A file for ssh -F."""
    root: str = "/"
    """Where the board's file system begins; another folder for a trial."""
    python: str = "python3"

    def argv(self, host: str, *words: str) -> tuple[str, ...]:
        """The ssh command that runs `words` on `host`."""
        check_host(host)
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]
        # The question whether the board is alive waits behind megabytes that a thin link has not taken yet.
        options += ["-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=10"]
        return ("ssh", *options, *self._place(), host, "--", shlex.join(words))

    def _place(self) -> list[str]:
        options = ["-p", str(self.port)] if self.port else []
        options += ["-i", str(self.identity)] if self.identity else []
        return options + (["-F", str(self.config)] if self.config else [])

    def by_hand(self, host: str) -> str:
        """The command that connects to `host` from a terminal."""
        return spelled(("ssh", *self._place(), host))

    def agent(self, host: str, step: str, *args: str) -> tuple[str, ...]:
        """The ssh command that runs one step of the agent, whose source comes first on stdin."""
        start = _START.format(size=len(agent_source()))
        return self.argv(host, *self.as_root(host), self.python, "-c", start, step, *args, "--root", self.root)

    def as_root(self, host: str) -> tuple[str, ...]:
        """What comes before a command that only root may run."""
        return ("sudo", "-n") if self.root == "/" and not host.startswith("root@") else ()


def check_host(host: str) -> None:
    """Raise UsageError if `host` could not be the name of one: ssh would take some for an option."""
    if not _HOST.fullmatch(host):
        raise UsageError(f"{host!r} is no host: name it as user@host or as an alias of your ssh configuration")
