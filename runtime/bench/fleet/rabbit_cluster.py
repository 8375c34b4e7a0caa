"""Cluster of RabbitMQ nodes on this machine: on ports of loopback, or each node in a network namespace of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesem.errors import EnvironmentMissing, LinkError, UsageError
from runtime.bench.fleet.networks import Networks
from runtime.bench.fleet.nodes import FIGURES_S, START_S, NodeBytes, free_port, wait_for
from runtime.bench.fleet.process_use import descendants_of
from runtime.mqtt.mosquitto import end, find_tool

# Debian's own start script would change to the user `rabbitmq`; this is what it starts.
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.STDOUT,
}
_CONFIG = """
listeners.tcp = none
mqtt.listeners.tcp.1 = {host}:{port}
mqtt.allow_anonymous = false
disk_free_limit.absolute = 1MB
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
{nodes}
{more}
"""
_MQTT_PORT, _LINK_PORT, _NAMES_PORT = 1883, 25672, 4369
_TICK_S = 8
"""With namespaces, a node that is not heard for some 6 to 10 s is lost for the others; Erlang's own choice is a
minute."""


@dataclass(frozen=True)
class _Place:
    """Where a node runs."""

    name: str
    host: str
    port: int
    """For clients."""
    link_port: int
    """For other nodes."""
    names_port: int
    """Of the name server epmd."""
    inside: Sequence[str] = ()
    """Words before a command that is to run there."""


class RabbitCluster:
    """`count` nodes of RabbitMQ with its MQTT plugin as one cluster, whose data and name servers are its own.

    `more` are further lines of rabbitmq.conf. With `namespaces`, each node has a network of its own, and its link can
    be cut. EnvironmentMissing if RabbitMQ is not installed, or there are no namespaces.
    """

    def __init__(self, folder: Path, more: str, count: int = 3, *, namespaces: bool = False) -> None:
        epmd = find_tool("epmd")
        if epmd is None or not (RABBITMQ / "rabbitmq-server").exists():
            raise EnvironmentMissing("RabbitMQ is not installed: apt-get install rabbitmq-server")
        self._folder = folder
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._stack = contextlib.ExitStack()
        self._networks = Networks(count) if namespaces else None
        if self._networks is not None:
            self._stack.callback(self._networks.end)
        self._places = _places(count, self._networks)
        self.endpoints = [(place.host, place.port) for place in self._places]
        try:
            self._configure(more)
            for number, place in enumerate(self._places):
                if number == 0 or namespaces:
                    self._start_names(epmd, place)
            for number in range(count):
                self.start(number)
        except BaseException:
            self.end()
            raise

    def start(self, number: int) -> None:
        """As `Brokers.start`."""
        argv = [*self._places[number].inside, str(RABBITMQ / "rabbitmq-server")]
        server = subprocess.Popen(argv, env=self._env(number), start_new_session=True, **_QUIET)
        self._servers[number] = server
        wait_for(self.endpoints[number], server, self._folder / f"log{number}")

    def kill(self, number: int) -> None:
        """As `Brokers.kill`."""
        server = self._servers.pop(number)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def cut(self, number: int) -> None:
        """Cut a node off from the other nodes and from all clients. UsageError without namespaces."""
        self._own_networks().cut(number)

    def join(self, number: int) -> None:
        """End that."""
        self._own_networks().join(number)

    def pids(self) -> list[int]:
        """As `Brokers.pids`."""
        return [pid for server in self._servers.values() for pid in (server.pid, *descendants_of(server.pid))]

    def running(self) -> int:
        """How many nodes run, as one that does says."""
        said = self._asked(next(iter(self._servers)), "length(rabbit_nodes:all_running()).").split()[-1:]
        return int(said[0]) if said and said[0].isdigit() else 0  # it may not be ready to answer

    def carried(self, number: int) -> NodeBytes:
        """As `Brokers.carried`: of all clients, and of the other nodes."""
        deadline_s = time.monotonic() + FIGURES_S
        while time.monotonic() < deadline_s:
            said = re.search(r"\{\{input,(\d+)\},\{output,(\d+)\}\}", self._asked(number, "erlang:statistics(io)."))
            if said:
                return NodeBytes(int(said[1]), int(said[2]))
        raise LinkError(f"node {number} of RabbitMQ does not say how many bytes went through it")

    def whole(self) -> bool:
        """As `Brokers.whole`."""
        return self.running() == len(self._places)

    def end(self) -> None:
        """As `Brokers.end`."""
        for number in list(self._servers):  # whole process groups: a part that runs on would write to the folder
            self.kill(number)
        self._stack.close()

    def _own_networks(self) -> Networks:
        if self._networks is None:
            raise UsageError("nodes without namespaces of their own cannot be cut off")
        return self._networks

    def _configure(self, more: str) -> None:
        nodes = [f"cluster_formation.classic_config.nodes.{n + 1} = {one.name}" for n, one in enumerate(self._places)]
        (self._folder / "home").mkdir(parents=True)
        cookie = self._folder / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o600)
        (self._folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        for number, place in enumerate(self._places):
            text = _CONFIG.format(host=place.host, port=place.port, nodes="\n".join(nodes), more=more)
            (self._folder / f"rabbit{number}.conf").write_text(text)

    def _start_names(self, epmd: str, place: _Place) -> None:
        argv = [*place.inside, epmd, "-port", str(place.names_port), "-address", place.host]
        names = subprocess.Popen(argv, **_QUIET)
        self._stack.callback(end, names)

    def _asked(self, number: int, expression: str) -> str:
        """What a node answers to an expression of Erlang; empty, or an error, if it is not ready."""
        place = self._places[number]
        argv = [*place.inside, str(RABBITMQ / "rabbitmqctl"), "-n", place.name, "eval", expression]
        return subprocess.run(argv, env=self._env(number), capture_output=True, text=True, timeout=START_S).stdout

    def _env(self, number: int) -> dict[str, str]:
        place = self._places[number]
        interface = place.host.replace(".", ",")
        return {
            **os.environ,
            "HOME": str(self._folder / "home"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / f"data{number}"),
            "RABBITMQ_LOG_BASE": str(self._folder / f"log{number}"),
            "ERL_EPMD_ADDRESS": place.host,
            "ERL_EPMD_PORT": str(place.names_port),
            "RABBITMQ_NODENAME": place.name,
            "RABBITMQ_USE_LONGNAME": "true" if place.inside else "false",
            "RABBITMQ_CONFIG_FILE": str(self._folder / f"rabbit{number}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(place.link_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-kernel inet_dist_use_interface {{{interface}}} +S 1:1"
                + (f" -kernel net_ticktime {_TICK_S}" if place.inside else "")
            ),
        }


def _places(count: int, networks: Networks | None) -> list[_Place]:
    if networks is not None:
        return [
            _Place(f"edgesem@{ip}", ip, _MQTT_PORT, _LINK_PORT, _NAMES_PORT, networks.inside(number))
            for number, ip in enumerate(networks.ips)
        ]
    names_port = free_port()
    return [
        _Place(f"edgesem{number}@localhost", "127.0.0.1", free_port(), free_port(), names_port)
        for number in range(count)
    ]
