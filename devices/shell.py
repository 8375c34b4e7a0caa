"""Shell: the one way to other programs. A command is run and recorded, and on a dry run only recorded."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from edgesem.errors import EdgesemError, EnvironmentMissing

MAX_OUTPUT_BYTES = 64 << 20
"""Of a command's stdout: one that writes more is stopped."""
_MAX_LINE_BYTES = 1 << 20
_MAX_TALK_BYTES = 8 << 20
_MAX_ERROR_BYTES = 64 << 10  # of stderr, its last bytes
_MAX_REASON = 600
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WHERE_FROM: Mapping[str, str] = {
    "bmaptool": "apt-get install bmap-tools",
    "debugfs": "apt-get install e2fsprogs",
    "lsblk": "apt-get install util-linux",
    "lsusb": "apt-get install usbutils",
    "mcopy": "apt-get install mtools",
    "mdir": "apt-get install mtools",
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
        tail = (self.err.strip() or self.out.strip())[-4 * _MAX_REASON :]
        lines = [printable(line.strip()) for line in tail.decode(errors="replace").splitlines()]
        return " / ".join(lines[-3:])[-_MAX_REASON:] or f"exit code {self.code}"


Execute = Callable[[Sequence[str], "IO[bytes] | bytes | None", "float | None"], CommandResult]


def execute(argv: Sequence[str], stdin: IO[bytes] | bytes | None, timeout_s: float | None) -> CommandResult:
    """Run a program to its end, without a shell between. One that writes more than MAX_OUTPUT_BYTES is stopped."""
    # Users of Debian have no sbin on their path, and sfdisk and debugfs, which need no root, are there.
    found = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    source = subprocess.PIPE if isinstance(stdin, bytes) else subprocess.DEVNULL if stdin is None else stdin
    child = subprocess.Popen(
        [found or argv[0], *argv[1:]], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    out, err = bytearray(), bytearray()
    readers = [threading.Thread(target=_read_head, args=(child, child.stdout, out), daemon=True)]
    readers.append(threading.Thread(target=_read_tail, args=(child.stderr, err), daemon=True))
    if isinstance(stdin, bytes):
        assert child.stdin is not None
        readers.append(threading.Thread(target=_feed, args=(child.stdin, stdin), daemon=True))
    try:
        for reader in readers:
            reader.start()
        child.wait(timeout_s)
        for reader in readers:
            reader.join()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for reader in readers:
            reader.join(5)  # a grandchild may hold the pipe open
    if len(out) >= MAX_OUTPUT_BYTES:
        said = f"{argv[0]} was stopped: it wrote more than {MAX_OUTPUT_BYTES >> 20} MB\n".encode()
        return CommandResult(child.returncode or 1, bytes(out), said)
    return CommandResult(child.returncode, bytes(out), bytes(err))


def _read_head(child: subprocess.Popen[bytes], pipe: IO[bytes], data: bytearray) -> None:
    """Read a child's stdout into `data`, to its end or to MAX_OUTPUT_BYTES: then the child is killed."""
    with pipe:
        while chunk := os.read(pipe.fileno(), 1 << 16):
            data += chunk[: MAX_OUTPUT_BYTES - len(data)]
            if len(data) >= MAX_OUTPUT_BYTES:
                child.kill()
                return


def _read_tail(pipe: IO[bytes], data: bytearray) -> None:
    """Read a stream to its end; `data` holds its last bytes."""
    with pipe:
        while chunk := os.read(pipe.fileno(), 1 << 16):
            data += chunk
            del data[:-_MAX_ERROR_BYTES]


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(data)


def printable(text: str, most: int = 4096) -> str:
    """`text` from outside as it may be printed: control characters as escapes, and cut where it is longer.

    A terminal would obey the escape sequences in it, and text that changes its direction would show other words.
    """
    shown = _CONTROLS.sub(lambda found: _escape(ord(found[0])), text[:most].replace("\t", " "))
    return shown if len(text) <= most else f"{shown} ... ({len(text)} characters)"


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


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
        code and its stderr tell more. It is killed when it writes no line for `quiet_s`, counted from its last line or
        the end of `say`, when it writes more than 8 MB, and when it goes on for four times as long as `quiet_s`.
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
        errors = bytearray()
        reader = threading.Thread(target=_read_tail, args=(child.stderr, errors), daemon=True)
        reader.start()
        timer = _SilenceTimer(child, quiet_s)
        end_s, heard_bytes, stopped = time.monotonic() + 4 * quiet_s, 0, ""
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                say(child.stdin)
                child.stdin.flush()
                if not keep_open:
                    child.stdin.close()
            timer.restart()
            while line := child.stdout.readline(_MAX_LINE_BYTES):
                timer.restart()
                heard_bytes += len(line)
                if heard_bytes > _MAX_TALK_BYTES:
                    stopped = f"it wrote more than {_MAX_TALK_BYTES >> 20} MB"
                elif time.monotonic() > end_s:
                    stopped = f"it did not end within {4 * quiet_s:g} s"
                if stopped:
                    child.kill()
                    break
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    hear(line, child.stdin)
            child.wait()
        finally:
            timer.end()
            if child.poll() is None:
                child.kill()
                child.wait()
            reader.join()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
        if timer.expired:
            stopped = f"nothing was heard for {quiet_s:g} s"
        said = f"\n{argv[0]} was stopped: {stopped}\n".encode() if stopped else b""
        return CommandResult(child.returncode, b"", bytes(errors) + said)


class _SilenceTimer:
    """Thread that kills a child process when no line has come from it for too long."""

    def __init__(self, child: subprocess.Popen[bytes], quiet_s: float) -> None:
        self._child, self._quiet_s, self.expired = child, quiet_s, False
        self._heard_s = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def restart(self) -> None:
        """A line has come: wait anew."""
        self._heard_s = time.monotonic()

    def end(self) -> None:
        """Wait no longer."""
        self._ended.set()

    def _watch(self) -> None:
        while (left_s := self._heard_s + self._quiet_s - time.monotonic()) > 0:
            if self._ended.wait(left_s):
                return
        self.expired = True
        self._child.kill()


def spelled(argv: Sequence[str]) -> str:
    """A command as one can paste it into a terminal."""
    text = shlex.join(argv)
    return text if len(text) <= 2000 else text[:2000] + " ..."
