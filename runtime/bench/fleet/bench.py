"""Load run: simulated cameras with connections of their own, a real broker, and receivers that divide the streams."""

from __future__ import annotations

import contextlib
import queue
import secrets
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesem.errors import EnvironmentMissing, LinkError, UsageError
from runtime.bench.fleet.figures import SPARE, Delays, dark_s, parts_of, repeated, what_binds
from runtime.bench.fleet.process_use import ProcessUse, busy_s, use_of
from runtime.bench.fleet.receiver_process import ReceiverProcess, Shown
from runtime.bench.fleet.recorded import record
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import answers
from runtime.mqtt.mosquitto import Listening, end, start_mosquitto
from runtime.process.child import Child, Job
from runtime.protocol.shard import shard_of
from runtime.protocol.topics import Topics
from runtime.receiver.processors import allowed_processors

_CONNECT_S, _CHILD_S, _START_S = 120.0, 30.0, 15.0
_DRAIN_S, _PROMISED_S = 20.0, 60.0
"""How long pictures that come late are waited for, and promised frames that no receiver keeps yet."""
_QUIET_S = 5.0
"""Without a picture for so long, nothing more comes: ordinary frames may be lost."""
_RECORDED = 8
_MOST_DROPPED = 0.02


@dataclass(frozen=True)
class Load:
    """What is simulated. UsageError for what cannot be."""

    cameras: int = 100
    seconds: float = 20.0
    interval_s: float = 10.0
    """From frame to frame of a camera."""
    receivers: int = 2
    size: tuple[int, int] = (320, 240)
    budget_bytes: int = 3000
    promise_every: int = 0
    """Every so many frames of a camera one is promised; 0: none."""
    kill_receiver: bool = False
    """Kill a receiver at half time, and start it anew."""

    def __post_init__(self) -> None:
        if self.seconds < self.interval_s:
            raise UsageError(f"in {self.seconds:g} s not every camera sends a frame each {self.interval_s:g} s")


def run_load(
    load: Load,
    addresses: Sequence[Address],
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run it; the figures, for JSON. `addresses` are those of a broker that runs, or empty: then a mosquitto is
    started. `tell` is told of progress in words. EnvironmentMissing without mosquitto or /proc, LinkError where a part
    does not start."""
    busy_s()  # tells at once if there is no /proc
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesem-fleet-")))
        broker_pid = None
        if not addresses:
            address, broker_pid = stack.enter_context(_mosquitto(folder, load.cameras + 64))
            addresses = [address]
        with Connection(addresses, name="bench") as link:
            version = link.version
        return _Run(load, addresses, version, broker_pid, folder, tell, stack).figures()


class _Run:
    """One run; its parts end with `stack`."""

    def __init__(
        self,
        load: Load,
        addresses: Sequence[Address],
        version: str,
        broker_pid: int | None,
        folder: Path,
        tell: Callable[[str], None],
        stack: contextlib.ExitStack,
    ) -> None:
        self._load, self._addresses, self._broker_pid = load, addresses, broker_pid
        self._folder, self._tell = folder, tell
        self._site = f"bench-{secrets.token_hex(4)}"
        self._events: queue.Queue[tuple[str, Job]] = queue.Queue()
        self._totals: Job = {}
        self._ended: list[ReceiverProcess] = []
        tell("receivers start")
        self._receivers = [self._receiver(index) for index in range(load.receivers)]
        stack.callback(self._end_receivers)
        for one in self._receivers:
            one.wait_ready()
        tell(f"{load.cameras} cameras connect")
        packets = record(_RECORDED, load.size, load.budget_bytes)
        self._packet_bytes = sum(map(len, packets)) / len(packets)
        job = {
            "addresses": [_plain(one) for one in addresses],
            "version": version,
            "site": self._site,
            "packets": [b64encode(one).decode() for one in packets],
            "cameras": load.cameras,
            "interval_s": load.interval_s,
            "seconds": load.seconds,
            "promise_every": load.promise_every,
        }
        module = "runtime.bench.fleet.swarm"
        child = Child(name="cameras", module=module, job=job, folder=folder, events=self._events)
        self._cameras = stack.enter_context(child)
        self._camera_pid = int(self._wait_for("connected", _CONNECT_S)["pid"])

    def figures(self) -> dict[str, Any]:
        """Film, wait for what is under way, and count."""
        load = self._load
        self._tell(f"{load.cameras} cameras film for {load.seconds:g} s")
        before, began_s, others_s = self._uses(), time.monotonic(), busy_s()
        (self._folder / "start").touch()
        killed_s = self._kill_at_half_time(began_s) if load.kill_receiver else None
        sent = int(self._wait_for("filmed", load.seconds + _CHILD_S)["sent"])
        seconds = time.monotonic() - began_s
        uses = {name: use.since(before.get(name, ProcessUse())) for name, use in self._uses().items()}
        others_s = busy_s() - others_s - sum(use.cpu_s for use in uses.values())
        self._drain(sent)
        self._cameras.finish(timeout_s=_CHILD_S)
        self._end_receivers()
        return self._counted(uses, began_s, seconds, max(0.0, others_s / seconds), killed_s)

    def _counted(
        self, uses: dict[str, ProcessUse], began_s: float, seconds: float, others_cores: float, killed_s: float | None
    ) -> dict[str, Any]:
        load, sent = self._load, int(self._totals["sent"])
        shown: list[Shown] = [one for receiver in [*self._ended, *self._receivers] for one in receiver.shown]
        pictures = len({(one.stream, one.epoch, one.frame) for one in shown})
        in_time = sum(one.received_s <= began_s + seconds for one in shown)  # what the processor time was spent on
        processors = allowed_processors()
        ours_cores = sum(use.cpu_s for name, use in uses.items() if name != "cameras") / seconds
        done = [one.done for one in self._receivers if one.done]
        own = sum(stream["size_bytes"] for one in done for stream in one["streams"])
        moved = [one for one in shown if shard_of(Topics.named(one.stream), load.receivers) == 0]
        dark = [] if killed_s is None else dark_s(moved, killed_s, load.interval_s)
        return {
            **asdict(load),
            "packet_bytes": round(self._packet_bytes),
            "sent": sent,
            "pictures": pictures,
            "pictures_per_s": round(in_time / seconds, 2),
            "not_shown": sent - pictures,
            "delay": asdict(Delays.of(shown)),
            "promised": self._totals["promised"],
            "promised_lost": self._totals["waiting"],
            "promised_shown_twice": repeated(shown, promised=True),
            "parts": parts_of(uses, seconds, in_time),
            "heard_of_others": round(sum(one["others_bytes"] for one in done) / own, 4) if own else None,
            "processors": processors,
            "others_cores": round(others_cores, 2),
            "binds": what_binds(
                uses,
                seconds=seconds,
                processors=processors,
                others_cores=others_cores,
                single=[name for name in uses if name in ("broker", "cameras")],
            ),
            # By what a picture costs: a run that was late has not paid for all of them.
            "cameras_on_two_cores": round(2 * SPARE / ours_cores * in_time / seconds * load.interval_s)
            if ours_cores
            else None,
            "dark_s": {"streams": len(dark), "p95": sorted(dark)[int(0.95 * (len(dark) - 1))]} if dark else None,
        }

    def _receiver(self, index: int) -> ReceiverProcess:
        first, load = self._addresses[0], self._load
        hosts = ",".join(f"mqtts://{one}" if one.tls else str(one) for one in self._addresses)
        arguments = [f"{self._site}/+/+", "--broker", hosts, "--shard", f"{index}/{load.receivers}", "--workers", "1"]
        arguments += ["--out", str(self._folder / f"out{index}"), "--state-dir", str(self._folder / f"state{index}")]
        arguments += ["--user", first.user] if first.user else []
        files = {"ca-file": first.ca_file, "cert-file": first.cert_file, "key-file": first.key_file}
        for name, path in files.items():
            arguments += [] if path is None else [f"--{name}", str(path)]
        config = self._folder / f"receive{index}.toml"
        config.write_text(f"[draw]\nmax_streams = {min(10_000, max(256, load.cameras))}\n")
        arguments += ["--config", str(config)]
        return ReceiverProcess(f"receiver {index}", arguments, self._folder, first.password, time.monotonic)

    def _end_receivers(self) -> None:
        for one in self._receivers:
            one.end()

    def _kill_at_half_time(self, began_s: float) -> float:
        self._wait(began_s + self._load.seconds / 2)
        self._tell("a receiver is killed and started anew")
        killed_s = time.monotonic()
        self._receivers[0].kill()
        self._ended.append(self._receivers[0])
        self._receivers[0] = self._receiver(0)
        return killed_s

    def _uses(self) -> dict[str, ProcessUse]:
        decoders = [pid for one in self._receivers for pid in one.decoders()]
        uses = {} if self._broker_pid is None else {"broker": use_of([self._broker_pid])}
        return uses | {
            "receivers": use_of([one.pid for one in self._receivers]),
            "decoders": use_of(decoders),
            "cameras": use_of([self._camera_pid]),
        }

    def _drain(self, sent: int) -> None:
        """Wait until all pictures are drawn, and all promised frames kept, or nothing more comes."""
        self._tell("the last pictures come")
        began_s = changed_s = time.monotonic()
        before = -1
        while True:
            shown = len({(one.stream, one.epoch, one.frame) for receiver in self._all() for one in receiver.shown})
            now_s = time.monotonic()
            if shown != before:
                before, changed_s = shown, now_s
            waits = sent != self._totals.get("sent") or self._totals["waiting"] > 0
            if not waits and (shown >= sent or now_s - changed_s > _QUIET_S):
                return
            if now_s - began_s > (_PROMISED_S if waits else _DRAIN_S):
                return
            self._wait(now_s + 0.5)

    def _all(self) -> Iterator[ReceiverProcess]:
        yield from self._ended
        yield from self._receivers

    def _wait_for(self, kind: str, patience_s: float) -> Job:
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            event = self._take(left_s)
            if event.get("event") == kind:
                return event
        raise LinkError(
            f"the simulated cameras were not {kind} within {patience_s:.0f} s: take fewer, or look for load"
        )

    def _wait(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            self._take(left_s)

    def _take(self, patience_s: float) -> Job:
        """The next event of the cameras; empty if none comes in time. LinkError if they have ended."""
        try:
            _, event = self._events.get(timeout=patience_s)
        except queue.Empty:
            return {}
        if event["event"] == "exit":
            raise LinkError(f"the simulated cameras have ended: {event['words']}")
        if event["event"] == "totals":
            self._totals = event
        return event


@contextlib.contextmanager
def _mosquitto(folder: Path, connections: int) -> Iterator[tuple[Address, int]]:
    """A mosquitto of our own on loopback, and the number of its process."""
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = Address("127.0.0.1", port, user="bench", password=secrets.token_urlsafe(24))
    users = {"bench": address.password or ""}
    home = folder / "broker"
    home.mkdir(mode=0o700)
    with (folder / "broker.log").open("wb") as log:
        process = start_mosquitto(Listening("127.0.0.1", port, users, max_connections=connections), home, log)
    try:
        deadline_s = time.monotonic() + _START_S
        while not answers("127.0.0.1", port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise EnvironmentMissing(
                    (folder / "broker.log").read_text(errors="replace")[-500:] or "mosquitto did not start"
                )
            time.sleep(0.02)
        yield address, process.pid
    finally:
        end(process)


def _plain(address: Address) -> dict[str, Any]:
    """An address as a job file holds it."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(address).items()}
