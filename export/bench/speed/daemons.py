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
from statistics import median
from typing import Any

from packaging.requirements import Requirement

from edgesem.errors import EnvironmentMissing, LinkError
from export.bench.speed.mirror import mirrored
from export.bench.speed.processes import children, cpu_s, load_over, private_bytes, rss_bytes, wait_until_idle

FRAMES = 8  # after so many, a daemon has taken the memory that it keeps
STREAMS = 32  # of a receiver that serves many cameras
STARTS = 3
IDLE_S = 10.0
_LONGEST_S = 180.0
_IN_NO_WHEEL = "weights"  # of a checkout: where training goes on from
_PACKAGES = ("edgesem", "runtime", "export", "devices")


def measure_daemons(pictures: Path, folder: Path, bundle: Path | None = None) -> dict[str, Any]:
    """Runs broker, receiver and sender as a user does, the sender over the folder `pictures`.

    `first_packet_cpu_s`: processor time of a sender from its start until it has published the first packet; the median
    of STARTS. `sender_rss_bytes`, `receiver_rss_bytes`, `decoder_rss_bytes`: resident memory after FRAMES frames, a
    decoder process's as the mean of those there are. `sender_private_bytes`, `decoder_private_bytes`: what of it is no
    other process's too, so what ends with the process. `receiver_many_rss_bytes`: the receiver with STREAMS streams.
    `idle_cores`, `idle_wakeups_hz`: what a sender does between frames, as a share of a core and a second, from when the
    work of its start has ended.
    `folder` takes their state. EnvironmentMissing where there is no /proc, LinkError if one of them does not get that
    far.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise EnvironmentMissing("memory of processes is read from /proc, which only Linux has: use --stages-only")
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    at = ("--port", str(port))
    chosen = () if bundle is None else ("--bundle", str(bundle))
    # Whoever forbids Python to keep what it has compiled pays for that at each start; an installed edgesem has it.
    unset = ("STATE_DIRECTORY", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["XDG_STATE_HOME"] = str(folder)
    with ExitStack() as running:

        def start(*arguments: str, until: ExitStack = running) -> _Daemon:
            return until.enter_context(_daemon(arguments, environment, folder))

        broker = start("broker", *at).wait_for("listening")
        receiver = start("receive", *at, *chosen, "--view", "always")  # its decoders draw, although nobody looks
        receiver.wait_for("ready")
        starts_s = []
        for number in range(STARTS):
            with ExitStack() as once:
                sender = start("send", str(pictures), "--stream", f"start{number}", *at, *chosen, until=once)
                sender.wait_for("sent")
                starts_s.append(cpu_s(sender.pid))
        sender = start("send", str(pictures), "--loop", "--fps", "5", *at, *chosen)
        for _ in range(FRAMES):
            receiver.wait_for("picture")
        decoders = [copy for template in children(receiver.pid) for copy in children(template)]
        figures: dict[str, Any] = {
            "first_packet_cpu_s": median(starts_s),
            "sender_rss_bytes": rss_bytes(sender.pid),
            "sender_private_bytes": private_bytes(sender.pid),
            "receiver_rss_bytes": rss_bytes(receiver.pid),
            "decoder_rss_bytes": sum(map(rss_bytes, decoders)) // len(decoders),
            "decoder_private_bytes": sum(map(private_bytes, decoders)) // len(decoders),
        }
        with mirrored(port, Path(broker["credentials_file"]), STREAMS - 1):
            seen: set[str] = set()
            while len(seen) < STREAMS:
                seen.add(receiver.wait_for("picture")["stream"])
            figures["receiver_many_rss_bytes"] = rss_bytes(receiver.pid)
        idle = start("send", str(pictures), "--loop", "--fps", "0.01", "--stream", "idle", *at, *chosen)
        idle.wait_for("sent")
        wait_until_idle(idle.pid, IDLE_S)
        load = load_over(idle.pid, IDLE_S)
        return {**figures, "idle_cores": load.cores, "idle_wakeups_hz": load.wakeups_hz}


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

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Read on until it prints an event of this kind. LinkError if it ends before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event.get("event") == kind:
                return event
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise LinkError(f"a daemon ended before it was {kind}: {''.join(said) or 'it said nothing'}")


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


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.parent.name != _IN_NO_WHEEL)
