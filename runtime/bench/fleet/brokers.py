"""Brokers of the bench: one mosquitto, or three nodes of RabbitMQ as a cluster, on loopback; a node can be killed."""

from __future__ import annotations

import os
import queue
import re
import secrets
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgesem.errors import EnvironmentMissing, LinkError
from runtime.bench.fleet.process_use import descendants_of
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import answers
from runtime.mqtt.mosquitto import Listening, end, find_tool, start_mosquitto

_START_S = 240.0
_LOOK_S = 0.02
_FIGURES_S = 60.0
"""How long a node is asked for its figures."""
_USER = "bench"
# Debian's own start script would change to the user `rabbitmq`; this is what it starts.
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.STDOUT,
}
_RABBITMQ = """
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = false
disk_free_limit.absolute = 1MB
cluster_formation.peer_discovery_backend = classic_config
{nodes}
{more}
"""


@dataclass(frozen=True)
class NodeBytes:
    """What a node of the broker has taken and given over the network; sums are meant."""

    received_bytes: int = 0
    sent_bytes: int = 0

    def __add__(self, other: NodeBytes) -> NodeBytes:
        return NodeBytes(self.received_bytes + other.received_bytes, self.sent_bytes + other.sent_bytes)


class Brokers(Protocol):
    """Nodes of a broker that were started here, by number."""

    ports: list[int]

    def pids(self) -> list[int]:
        """All their processes."""

    def start(self, number: int) -> None:
        """Start a node, and wait until clients can come. EnvironmentMissing if that fails."""

    def kill(self, number: int) -> None:
        """Kill a node without a word."""

    def carried(self, number: int) -> NodeBytes:
        """Bytes through a node that runs, as it counts them, since it was started. LinkError if it does not say."""

    def whole(self) -> bool:
        """Whether all nodes work together, so that one more can be lost."""

    def end(self) -> None:
        """End all."""


class Mosquitto:
    """One mosquitto. `connections` is the most that it takes."""

    def __init__(self, folder: Path, password: str, connections: int) -> None:
        self.ports = [free_port()]
        self._folder = folder
        self._listening = Listening(
            "127.0.0.1", self.ports[0], {_USER: password}, max_connections=connections, figures_every_s=1
        )
        self._address = Address("127.0.0.1", self.ports[0], user=_USER, password=password)
        folder.mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes]
        self.start(0)

    def start(self, number: int) -> None:
        """As `Brokers.start`."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = start_mosquitto(self._listening, self._folder, log)
        _wait_for(self.ports[number], self._process, self._folder / "broker.log")

    def pids(self) -> list[int]:
        """As `Brokers.pids`."""
        return [self._process.pid]

    def kill(self, number: int) -> None:
        """As `Brokers.kill`."""
        self._process.kill()
        self._process.wait()

    def carried(self, number: int) -> NodeBytes:
        """As `Brokers.carried`: of all clients, this one among them."""
        told: queue.Queue[tuple[str, bytes]] = queue.Queue()
        counts: dict[str, list[int]] = {"received": [], "sent": []}
        topics = [f"$SYS/broker/bytes/{name}" for name in counts]
        deadline_s = time.monotonic() + _FIGURES_S
        with Connection(self._address, name="figures", subscribe=topics, on_message=lambda *message: told.put(message)):
            # The first value of each is retained, and as old as it may be; asking changes it, so another one comes.
            while min(map(len, counts.values())) < 2:
                try:
                    topic, payload = told.get(timeout=max(0.0, deadline_s - time.monotonic()))
                except queue.Empty:
                    raise LinkError("mosquitto does not say how many bytes went through it") from None
                counts[topic.rpartition("/")[2]].append(int(payload))
        return NodeBytes(counts["received"][-1], counts["sent"][-1])

    def whole(self) -> bool:
        """As `Brokers.whole`."""
        return self._process.poll() is None

    def end(self) -> None:
        """As `Brokers.end`."""
        end(self._process)


class RabbitCluster:
    """`count` nodes of RabbitMQ with its MQTT plugin as one cluster, whose data and name server are its own.

    `more` are further lines of rabbitmq.conf. EnvironmentMissing if RabbitMQ is not installed.
    """

    def __init__(self, folder: Path, more: str, count: int = 3) -> None:
        epmd = find_tool("epmd")
        if epmd is None or not (RABBITMQ / "rabbitmq-server").exists():
            raise EnvironmentMissing("RabbitMQ is not installed: apt-get install rabbitmq-server")
        self._folder, self._names = folder, free_port()
        self.ports = [free_port() for _ in range(count)]
        self._links = [free_port() for _ in range(count)]
        nodes = [f"cluster_formation.classic_config.nodes.{n + 1} = {_node(n)}" for n in range(count)]
        (folder / "home").mkdir(parents=True)
        (folder / "home" / ".erlang.cookie").write_text(secrets.token_hex(16))
        (folder / "home" / ".erlang.cookie").chmod(0o600)
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        for number, port in enumerate(self.ports):
            text = _RABBITMQ.format(port=port, nodes="\n".join(nodes), more=more)
            (folder / f"rabbit{number}.conf").write_text(text)
        self._epmd = subprocess.Popen([epmd, "-port", str(self._names), "-address", "127.0.0.1"], **_QUIET)
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        try:
            for number in range(count):
                self.start(number)
        except BaseException:
            self.end()
            raise

    def start(self, number: int) -> None:
        """As `Brokers.start`."""
        argv = [str(RABBITMQ / "rabbitmq-server")]
        server = subprocess.Popen(argv, env=self._env(number), start_new_session=True, **_QUIET)
        self._servers[number] = server
        _wait_for(self.ports[number], server, self._folder / f"log{number}")

    def kill(self, number: int) -> None:
        """As `Brokers.kill`."""
        server = self._servers.pop(number)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def pids(self) -> list[int]:
        """As `Brokers.pids`."""
        return [pid for server in self._servers.values() for pid in (server.pid, *descendants_of(server.pid))]

    def running(self) -> int:
        """How many nodes run, as one that does says."""
        said = self._asked(next(iter(self._servers)), "length(rabbit_nodes:all_running()).").split()[-1:]
        return int(said[0]) if said and said[0].isdigit() else 0  # it may not be ready to answer

    def carried(self, number: int) -> NodeBytes:
        """As `Brokers.carried`: of all clients, and of the other nodes."""
        deadline_s = time.monotonic() + _FIGURES_S
        while time.monotonic() < deadline_s:
            said = re.search(r"\{\{input,(\d+)\},\{output,(\d+)\}\}", self._asked(number, "erlang:statistics(io)."))
            if said:
                return NodeBytes(int(said[1]), int(said[2]))
        raise LinkError(f"node {number} of RabbitMQ does not say how many bytes went through it")

    def whole(self) -> bool:
        """As `Brokers.whole`."""
        return self.running() == len(self.ports)

    def end(self) -> None:
        """As `Brokers.end`."""
        for server in self._servers.values():
            end(server)
        end(self._epmd)

    def _asked(self, number: int, expression: str) -> str:
        """What a node answers to an expression of Erlang; empty, or an error, if it is not ready."""
        argv = [str(RABBITMQ / "rabbitmqctl"), "-n", _node(number), "eval", expression]
        return subprocess.run(argv, env=self._env(number), capture_output=True, text=True, timeout=_START_S).stdout

    def _env(self, number: int) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._folder / "home"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / f"data{number}"),
            "RABBITMQ_LOG_BASE": str(self._folder / f"log{number}"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_NODENAME": _node(number),
            "RABBITMQ_CONFIG_FILE": str(self._folder / f"rabbit{number}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._links[number]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }


def started(kind: str, folder: Path, connections: int) -> tuple[Brokers, list[Address]]:
    """Brokers of a kind, mosquitto or rabbitmq, and how clients reach them. EnvironmentMissing without the program."""
    password = secrets.token_urlsafe(24)
    brokers: Brokers
    if kind == "rabbitmq":
        brokers = RabbitCluster(folder, f"default_user = {_USER}\ndefault_pass = {password}")
    else:
        brokers = Mosquitto(folder, password, connections)
    return brokers, [Address("127.0.0.1", port, user=_USER, password=password) for port in brokers.ports]


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _node(number: int) -> str:
    return f"edgesem{number}@localhost"


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while not answers("127.0.0.1", port):
        if process.poll() is not None or time.monotonic() > deadline_s:
            said = log.read_text(errors="replace")[-500:] if log.is_file() else f"see {log}"
            raise EnvironmentMissing(f"the broker did not start: {said}")
        time.sleep(_LOOK_S)
