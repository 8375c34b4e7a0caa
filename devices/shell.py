"""Shell: the one way to other programs. A command is run and recorded, and on a dry run only recorded."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from edgesem.errors import EdgesemError, EnvironmentMissing

_MAX_LINE_BYTES = 1 << 20
_WHERE_FROM: Mapping[str, str] = {
    "bmaptool": "apt-get install bmap-tools",
    "cloud-init": "apt-get install cloud-init",
    "debugfs": "apt-get install e2fsprogs",
    "lsblk": "apt-get install util-linux",
    "lsusb": "apt-get install usbutils",
    "mcopy": "apt-get install mtools",
    "mdir": "apt-get install mtools",
    "mdel": "apt-get install mtools",
    "mmd": "apt-get install mtools",
    "rpi-imager": "apt-get install rpi-imager, or https://www.raspberrypi.com/software/",
    "sfdisk": "apt-get install fdisk",
    "ssh": "apt-get install openssh-client",
    "systemd-analyze": "apt-get install systemd",
}


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: bytes = b""
    err: bytes = b""

    @property
    def text(self) -> str:
        """Its stdout as text."""
        return self.out.decode(errors="replace")

    @property
    def reason(self) -> str:
        """The last lines of stderr, or of stdout if there are none: why it failed."""
        lines = (self.err.strip() or self.out.strip()).decode(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-3:]) or f"exit code {self.code}"


Execute = Callable[[Sequence[str], "IO[bytes] | bytes | None", "float | None"], CommandResult]


def execute(argv: Sequence[str], stdin: IO[bytes] | bytes | None, timeout_s: float | None) -> CommandResult:
    """Run a program to its end, without a shell between."""
    # Users of Debian have no sbin on their path, and sfdisk and debugfs, which need no root, are there.
    found = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    argv = [found or argv[0], *argv[1:]]
    if isinstance(stdin, bytes):
        run = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout_s, check=False)
    else:
        source = subprocess.DEVNULL if stdin is None else stdin
        run = subprocess.run(list(argv), stdin=source, capture_output=True, timeout=timeout_s, check=False)
    return CommandResult(run.returncode, run.stdout, run.stderr)


@dataclass
class Shell:
    """Runs commands; `record` lists every one that changes something, as it was or would have been run.

    With `dry_run`, a command that changes something is not run and counts as successful; one that changes nothing
    (`read_only=True`) runs all the same, so that a plan speaks of what is really there. Tests give their own `execute`.
    """

    dry_run: bool = False
    execute: Execute = execute
    record: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self,
        *argv: str,
        stdin: IO[bytes] | bytes | None = None,
        read_only: bool = False,
        check: bool = True,
        timeout_s: float | None = None,
        error: type[EdgesemError] = EnvironmentMissing,
    ) -> CommandResult:
        """Result of `argv`. With `check`, a failure is raised as `error`, with the last lines of its output."""
        if not read_only:
            self.record.append(argv)
            if self.dry_run:
                return CommandResult(0)
        try:
            done = self.execute(argv, stdin, timeout_s)
        except FileNotFoundError as missing:
            hint = _WHERE_FROM.get(argv[0], f"install {argv[0]}")
            raise EnvironmentMissing(f"{argv[0]} is not installed: {hint}") from missing
        except subprocess.TimeoutExpired as late:
            raise error(f"{argv[0]} did not end within {timeout_s:g} s: {spelled(argv)}") from late
        if check and done.code:
            raise error(f"{argv[0]} failed ({done.code}): {done.reason}; the command was: {spelled(argv)}")
        return done

    def talk(
        self,
        *argv: str,
        say: Callable[[IO[bytes]], None],
        hear: Callable[[bytes, IO[bytes]], None],
        quiet_s: float,
        keep_open: bool = False,
    ) -> CommandResult:
        """Result of a program that is written to while it runs: `say` writes, `hear` gets each line of its output.

        With `keep_open`, `hear` may write too. A program that ends while it is written to is no error here: its exit
        code and its stderr tell more. One that writes no line for `quiet_s`, counted from its last line or the end of
        `say`, is killed.
        """
        self.record.append(argv)
        if self.dry_run:
            return CommandResult(0)
        try:
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError as missing:
            raise EnvironmentMissing(f"{argv[0]} is not installed: {_WHERE_FROM.get(argv[0], '')}") from missing
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        errors: list[bytes] = []
        reader = threading.Thread(target=lambda pipe=child.stderr: errors.append(pipe.read()), daemon=True)
        reader.start()
        timer = _SilenceTimer(child, quiet_s)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                say(child.stdin)
                child.stdin.flush()
                if not keep_open:
                    child.stdin.close()
            timer.restart()
            while line := child.stdout.readline(_MAX_LINE_BYTES):
                timer.restart()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    hear(line, child.stdin)
            child.wait()
        finally:
            timer.end()
            if child.poll() is None:
                child.kill()
                child.wait()
            reader.join()
            for pipe in (child.stdin, child.stdout, child.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
        if timer.expired:
            errors.append(f"{argv[0]} was stopped: nothing was heard for {quiet_s:g} s\n".encode())
        return CommandResult(child.returncode, b"", b"".join(errors))


class _SilenceTimer:
    """Timer that kills a child process when no line has come from it for too long."""

    def __init__(self, child: subprocess.Popen[bytes], quiet_s: float) -> None:
        self._child, self._quiet_s, self.expired = child, quiet_s, False
        self._timer = threading.Timer(quiet_s, self._expire)
        self._timer.start()

    def restart(self) -> None:
        """A line has come: wait anew."""
        self._timer.cancel()
        self._timer = threading.Timer(self._quiet_s, self._expire)
        self._timer.start()

    def end(self) -> None:
        """Wait no longer."""
        self._timer.cancel()

    def _expire(self) -> None:
        self.expired = True
        self._child.kill()


def spelled(argv: Sequence[str]) -> str:
    """A command as one can paste it into a terminal."""
    text = shlex.join(argv)
    return text if len(text) <= 2000 else text[:2000] + " ..."
