"""Brokers of the bench: one mosquitto, or three nodes of RabbitMQ as a cluster; a node can be killed."""

from __future__ import annotations

import queue
import secrets
import subprocess
import time
from pathlib import Path

from edgesem.errors import LinkError
from runtime.bench.fleet.nodes import FIGURES_S, Brokers, NodeBytes, free_port, wait_for
from runtime.bench.fleet.rabbit_cluster import RabbitCluster
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import Listening, end, start_mosquitto

_USER = "bench"


class Mosquitto:
    """One mosquitto. `connections` is the most that it takes."""

    def __init__(self, folder: Path, password: str, connections: int) -> None:
        self.endpoints = [("127.0.0.1", free_port())]
        host, port = self.endpoints[0]
        self._folder = folder
        self._listening = Listening(host, port, {_USER: password}, max_connections=connections, figures_every_s=1)
        self._address = Address(host, port, user=_USER, password=password)
        folder.mkdir(mode=0o700)
        self._process: subprocess.Popen[bytes]
        self.start(0)

    def start(self, number: int) -> None:
        """As `Brokers.start`."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = start_mosquitto(self._listening, self._folder, log)
        wait_for(self.endpoints[number], self._process, self._folder / "broker.log")

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
        deadline_s = time.monotonic() + FIGURES_S
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


def started(kind: str, folder: Path, connections: int, namespaces: bool) -> tuple[Brokers, list[Address]]:
    """Brokers of a kind, mosquitto or rabbitmq, and how clients reach them; nodes of RabbitMQ in network
    namespaces, if that is asked for. EnvironmentMissing without the program, or without namespaces."""
    password = secrets.token_urlsafe(24)
    brokers: Brokers
    if kind == "rabbitmq":
        brokers = RabbitCluster(folder, f"default_user = {_USER}\ndefault_pass = {password}", namespaces=namespaces)
    else:
        brokers = Mosquitto(folder, password, connections)
    return brokers, [Address(host, port, user=_USER, password=password) for host, port in brokers.endpoints]
