"""Nodes of the bench's brokers, whatever program they are: what is asked of them, and how their start is waited for."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgesem.errors import EnvironmentMissing
from runtime.mqtt.loopback_broker import answers

START_S = 240.0
FIGURES_S = 60.0
"""How long a node is asked for its figures."""
_LOOK_S = 0.02


@dataclass(frozen=True)
class NodeBytes:
    """What a node of the broker has taken and given over the network; sums are meant."""

    received_bytes: int = 0
    sent_bytes: int = 0

    def __add__(self, other: NodeBytes) -> NodeBytes:
        return NodeBytes(self.received_bytes + other.received_bytes, self.sent_bytes + other.sent_bytes)


class Brokers(Protocol):
    """Nodes of a broker that were started here, by number."""

    endpoints: list[tuple[str, int]]
    """Host and port of each."""

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


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(endpoint: tuple[str, int], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a node that was started takes connections. EnvironmentMissing, with the end of its log, if it does
    not."""
    deadline_s = time.monotonic() + START_S
    while not answers(*endpoint):
        if process.poll() is not None or time.monotonic() > deadline_s:
            said = log.read_text(errors="replace")[-500:] if log.is_file() else f"see {log}"
            raise EnvironmentMissing(f"the broker did not start: {said}")
        time.sleep(_LOOK_S)
