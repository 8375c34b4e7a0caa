"""Memory and start of the daemons, as Linux tells of their processes, and the disk space of what is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from socket import create_server
from typing import Any

from packaging.requirements import Requirement

from edgesem.errors import EnvironmentMissing, LinkError

FRAMES = 8  # after so many, a daemon has taken the memory that it keeps
_LONGEST_S = 180.0
_PACKAGES = ("edgesem", "runtime", "export", "devices")


def measure_daemons(pictures: Path, folder: Path, bundle: Path | None = None) -> dict[str, Any]:
    """Runs broker, receiver and sender as a user does, the sender over the folder `pictures`.

    `first_packet_cpu_s`: processor time of the sender from its start until it has published the first packet.
    `sender_rss_bytes`, `receiver_rss_bytes`, `decoder_rss_bytes`: resident memory after FRAMES frames, a decoder
    process's as the mean of those there are. `folder` takes their state. EnvironmentMissing where there is no /proc,
    LinkError if one of them does not get that far.
    """
    if not Path("/proc/self/statm").exists():
        raise EnvironmentMissing("memory of processes is read from /proc, which only Linux has: use --stages-only")
    with create_server(("127.0.0.1", 0)) as free:
        at = ("--port", str(free.getsockname()[1]))
    chosen = () if bundle is None else ("--bundle", str(bundle))
    environment = {name: value for name, value in os.environ.items() if name != "STATE_DIRECTORY"}
    environment["XDG_STATE_HOME"] = str(folder)
    with ExitStack() as running:

        def start(*arguments: str) -> _Daemon:
            return running.enter_context(_daemon(arguments, environment, folder))

        start("broker", *at).wait_for("listening")
        receiver = start("receive", *at, *chosen)
        receiver.wait_for("ready")
        sender = start("send", str(pictures), "--loop", "--fps", "5", *at, *chosen)
        sender.wait_for("sent")
        first_s = sender.cpu_s
        for _ in range(FRAMES):
            receiver.wait_for("picture")
        decoders = [_rss_bytes(child) for child in receiver.children()]
        return {
            "first_packet_cpu_s": first_s,
            "sender_rss_bytes": _rss_bytes(sender.pid),
            "receiver_rss_bytes": _rss_bytes(receiver.pid),
            "decoder_rss_bytes": sum(decoders) // len(decoders),
        }


def install_bytes() -> int:
    """Bytes on disk of edgesem and all that it needs without its extras: a board's install beside Python itself."""
    total = sum(_folder_bytes(Path(spec.origin).parent) for spec in map(find_spec, _PACKAGES) if spec and spec.origin)
    waiting, seen = [Requirement("edgesem")], set[str]()
    while waiting:
        requirement = waiting.pop()
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # not needed here, or taken from the system under another name
        if requirement.name != "edgesem" and requirement.name not in seen:
            paths = (Path(str(found.locate_file(file))) for file in found.files or ())
            total += sum(path.stat().st_size for path in paths if path.is_file())
        if str(requirement) not in seen:
            for one in map(Requirement, found.requires or ()):
                if not one.marker or any(one.marker.evaluate({"extra": name}) for name in (*requirement.extras, "")):
                    waiting.append(one)
        seen |= {requirement.name, str(requirement)}
    return total


class _Daemon:
    """An `edgesem` command that runs and prints JSON lines."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid, self._process, self._log = process.pid, process, log

    def wait_for(self, kind: str) -> None:
        """Read on until it prints an event of this kind. LinkError if it ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event.get("event") == kind:
                return
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise LinkError(f"a daemon ended before it was {kind}: {''.join(said) or 'it said nothing'}")

    @property
    def cpu_s(self) -> float:
        """Processor time so far, in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def children(self) -> list[int]:
        """Processes that it has started and that live."""
        lists = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for path in lists for pid in path.read_text().split()]


@contextmanager
def _daemon(arguments: Sequence[str], environment: dict[str, str], folder: Path) -> Iterator[_Daemon]:
    log = folder / f"{arguments[0]}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        too_long = threading.Timer(_LONGEST_S, process.kill)  # ends a wait for what never comes
        too_long.start()
        with process:
            try:
                yield _Daemon(process, log)
            finally:
                too_long.cancel()
                process.terminate()


def _rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
