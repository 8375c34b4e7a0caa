"""The one way to other programs: a command is run, recorded, and on a dry run only recorded."""

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
class Done:
    """How a command ended."""

    code: int
    out: bytes = b""
    err: bytes = b""

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last lines that it said on stderr, or on stdout if it said nothing there."""
        lines = (self.err.strip() or self.out.strip()).decode(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-3:]) or f"exit code {self.code}"


Execute = Callable[[Sequence[str], "IO[bytes] | bytes | None", "float | None"], Done]


def execute(argv: Sequence[str], stdin: IO[bytes] | bytes | None, timeout_s: float | None) -> Done:
    """Run a program to its end, without a shell between."""
    # Users of Debian have no sbin on their path, and sfdisk and debugfs, which need no root, are there.
    found = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    argv = [found or argv[0], *argv[1:]]
    if isinstance(stdin, bytes):
        run = subprocess.run(list(argv), input=stdin, capture_output=True, timeout=timeout_s, check=False)
    else:
        source = subprocess.DEVNULL if stdin is None else stdin
        run = subprocess.run(list(argv), stdin=source, capture_output=True, timeout=timeout_s, check=False)
    return Done(run.returncode, run.stdout, run.stderr)


@dataclass
class Shell:
    """Runs commands; `record` lists every one that changes something, as it was or would have been run.

    With `dry_run`, a command that changes something is not run and counts as successful; one that only looks
    (`look=True`) runs all the same, so that a plan speaks of what is really there. Tests give their own `execute`.
    """

    dry_run: bool = False
    execute: Execute = execute
    record: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self,
        *argv: str,
        stdin: IO[bytes] | bytes | None = None,
        look: bool = False,
        check: bool = True,
        timeout_s: float | None = None,
        error: type[EdgesemError] = EnvironmentMissing,
    ) -> Done:
        """How `argv` ended. With `check`, a failure is raised as `error`, with what the command complained of."""
        if not look:
            self.record.append(argv)
            if self.dry_run:
                return Done(0)
        try:
            done = self.execute(argv, stdin, timeout_s)
        except FileNotFoundError as missing:
            hint = _WHERE_FROM.get(argv[0], f"install {argv[0]}")
            raise EnvironmentMissing(f"{argv[0]} is not installed: {hint}") from missing
        except subprocess.TimeoutExpired as late:
            raise error(f"{argv[0]} did not end within {timeout_s:g} s: {spelled(argv)}") from late
        if check and done.code:
            raise error(f"{argv[0]} failed ({done.code}): {done.complaint}; the command was: {spelled(argv)}")
        return done

    def talk(
        self,
        *argv: str,
        say: Callable[[IO[bytes]], None],
        hear: Callable[[bytes, IO[bytes]], None],
        quiet_s: float,
        keep_open: bool = False,
    ) -> Done:
        """How a conversation with a program ended: `say` writes to it, `hear` gets each line of its answer.

        With `keep_open`, `hear` may write too. A program that goes away while it is written to is no error here: its
        exit code and its last words tell more. One that says nothing for `quiet_s`, counted
        from its last word or the end of what it is told, is killed.
        """
        self.record.append(argv)
        if self.dry_run:
            return Done(0)
        try:
            child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except FileNotFoundError as missing:
            raise EnvironmentMissing(f"{argv[0]} is not installed: {_WHERE_FROM.get(argv[0], '')}") from missing
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        last_words: list[bytes] = []
        listener = threading.Thread(target=lambda pipe=child.stderr: last_words.append(pipe.read()), daemon=True)
        listener.start()
        watch = _Watch(child, quiet_s)
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                say(child.stdin)
                child.stdin.flush()
                if not keep_open:
                    child.stdin.close()
            watch.heard()
            while line := child.stdout.readline(_MAX_LINE_BYTES):
                watch.heard()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    hear(line, child.stdin)
            child.wait()
        finally:
            watch.end()
            if child.poll() is None:
                child.kill()
                child.wait()
            listener.join()
            for pipe in (child.stdin, child.stdout, child.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
        if watch.bitten:
            last_words.append(f"{argv[0]} was stopped: nothing was heard for {quiet_s:g} s\n".encode())
        return Done(child.returncode, b"", b"".join(last_words))


class _Watch:
    """Kills a child of which nothing was heard for too long."""

    def __init__(self, child: subprocess.Popen[bytes], quiet_s: float) -> None:
        self._child, self._quiet_s, self.bitten = child, quiet_s, False
        self._timer = threading.Timer(quiet_s, self._bite)
        self._timer.start()

    def heard(self) -> None:
        """Begin to wait anew."""
        self._timer.cancel()
        self._timer = threading.Timer(self._quiet_s, self._bite)
        self._timer.start()

    def end(self) -> None:
        """Wait no longer."""
        self._timer.cancel()

    def _bite(self) -> None:
        self.bitten = True
        self._child.kill()


def spelled(argv: Sequence[str]) -> str:
    """A command as one can paste it into a terminal."""
    text = shlex.join(argv)
    return text if len(text) <= 2000 else text[:2000] + " ..."
