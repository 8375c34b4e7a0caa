"""Networks of the bench: a Linux network namespace for each node of a broker, joined by a bridge, with links that can
be cut.

A namespace lives as long as a process is in it: one that waits for its input to end, which is ours, so nothing is left
behind, however the bench ends. This machine reaches the nodes by an interface of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path

from edgesem.errors import EnvironmentMissing
from runtime.bench.link.namespace import missing
from runtime.mqtt.mosquitto import find_tool

_PATIENCE_S, _LOOK_S = 10.0, 0.01
_TOOLS = ("ip", "nsenter", "unshare", "cat")


class Networks:
    """`count` networks, each with one address, `ips`, out of the block for benchmarks (198.18.0.0/15, RFC 2544).

    EnvironmentMissing where there are no namespaces, for who is not root, and without iproute2 and util-linux.
    """

    def __init__(self, count: int) -> None:
        reason = missing() or "".join(f"{name} is missing: install iproute2 and util-linux" for name in _absent())
        if reason:
            raise EnvironmentMissing(f"no network namespaces: {reason}")
        subnet, self._device = f"198.18.{random.randrange(256)}", f"edgesem{os.getpid()}"
        self.ips = [f"{subnet}.{number + 10}" for number in range(count)]
        self._holders: list[subprocess.Popen[bytes]] = []
        try:
            self._hub = self._namespace()
            self._ip(None, f"link add {self._device} type veth peer name outside netns {self._hub}")
            self._ip(self._hub, "link add hub type bridge")
            self._ip(self._hub, "link set hub up")
            self._ip(self._hub, "link set outside master hub up")
            self._ip(None, f"address add {subnet}.1/24 dev {self._device}")
            self._ip(None, f"link set {self._device} up")
            for number, ip in enumerate(self.ips):
                node = self._namespace()
                self._ip(node, f"link add eth0 type veth peer name node{number} netns {self._hub}")
                self._ip(node, f"address add {ip}/24 dev eth0")
                self._ip(node, "link set eth0 up")
                self._ip(node, "link set lo up")
                self._ip(self._hub, f"link set node{number} master hub up")
        except BaseException:
            self.end()
            raise

    def inside(self, number: int) -> list[str]:
        """Words before a command that is to run in a network."""
        return _inside(self._holders[number + 1].pid)

    def cut(self, number: int) -> None:
        """Lose all that goes to and from a network."""
        self._ip(self._hub, f"link set node{number} down")

    def join(self, number: int) -> None:
        """Let it through again."""
        self._ip(self._hub, f"link set node{number} up")

    def end(self) -> None:
        """End all. Processes that were started inside must have ended."""
        for holder in self._holders:
            assert holder.stdin is not None
            with contextlib.suppress(OSError):
                holder.stdin.close()
            holder.wait()

    def _namespace(self) -> int:
        """Make one; the id of the process that holds it."""
        holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._holders.append(holder)
        ours, deadline_s = os.readlink("/proc/self/ns/net"), time.monotonic() + _PATIENCE_S
        while os.readlink(f"/proc/{holder.pid}/ns/net") == ours:
            if holder.poll() is not None or time.monotonic() > deadline_s:
                raise EnvironmentMissing("no network namespace can be made here")
            time.sleep(_LOOK_S)
        return holder.pid

    def _ip(self, holder: int | None, words: str) -> None:
        """Run `ip` in the namespace of a process, or in ours."""
        argv = [*([] if holder is None else _inside(holder)), "ip", *words.split()]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE_S)
        if done.returncode:
            raise EnvironmentMissing(f"no network namespaces: `ip {words}`: {done.stderr.strip()}")


def _inside(pid: int) -> list[str]:
    return ["nsenter", f"--net={Path('/proc') / str(pid) / 'ns/net'}", "--"]


def _absent() -> list[str]:
    return [name for name in _TOOLS if find_tool(name) is None]
