"""Disturbances of a load run: receivers and nodes of the broker that are killed, cut off or added."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.bench.fleet.figures import Kill
from runtime.bench.fleet.load import Load
from runtime.bench.fleet.nodes import Brokers, NodeBytes
from runtime.bench.fleet.process_use import ProcessUse, use_of
from runtime.bench.fleet.rabbit_cluster import RabbitCluster
from runtime.bench.fleet.receivers import Receivers

_KILLS_FROM, _KILLS_TO = 0.1, 0.85
"""Of the time that cameras film."""
_WHOLE_S = 1.0
"""How often a cluster is asked whether it is whole again, and how long it is left alone then."""
_LEARN_S = 12.0
"""A receiver that is added hears of all streams within this time: by their states, each 10 s."""
_CUT_S = 20.0
"""How long a node is cut off."""


class Disturbances:
    """Disturbances of one run. `wait(until_s)` waits until a monotonic time, `tell` is told what happens."""

    def __init__(
        self,
        load: Load,
        brokers: Brokers | None,
        receivers: Receivers,
        wait: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:
        self._load, self._brokers, self._receivers, self._wait, self._tell = load, brokers, receivers, wait, tell
        self.kills: list[Kill] = []
        self.dead = ProcessUse()
        """What nodes of the broker have used that were killed."""
        self.carried = [NodeBytes() for _ in brokers.endpoints] if brokers else []
        """Bytes through each node of the broker, until they were counted last."""

    def run(self, began_s: float, is_over: Callable[[], bool]) -> None:
        """Kill receivers and nodes, and cut nodes off, in turn, evenly over the time, as far as that reaches."""
        load = self._load
        if load.add_receiver:
            self._wait(began_s + load.seconds / 4)
            self._add_receiver()
        counts = {"receiver": load.kill_receivers, "node": load.kill_nodes, "link": load.cut_nodes}
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        kinds = [kind for _, kind in sorted(zip(_places(*counts.values()), kinds, strict=True))]
        for place, kind in enumerate(kinds):
            part = _KILLS_FROM + (_KILLS_TO - _KILLS_FROM) * (place + 0.5) / len(kinds)
            self._wait(began_s + part * load.seconds)
            if is_over():
                return
            number = sum(one.kind == kind for one in self.kills)
            if kind == "receiver":
                self._kill_receiver(number % load.receivers)
            elif kind == "node":
                self._kill_node(number % len(self.carried))
            else:
                self._cut_node(number % len(self.carried))

    def _kill_receiver(self, index: int) -> None:
        self._tell(f"receiver {index} is killed and started anew")
        self.kills.append(Kill("receiver", index, self._receivers.replace(index)))

    def _kill_node(self, number: int) -> None:
        brokers = self._brokers
        assert brokers is not None
        self._tell(f"node {number} of the broker is killed and started anew")
        self._count_bytes(number)
        before = use_of(brokers.pids())
        self.kills.append(Kill("node", number, time.monotonic()))
        brokers.kill(number)
        left = use_of(brokers.pids())
        self.dead += ProcessUse(before.cpu_s - left.cpu_s if len(brokers.endpoints) > 1 else before.cpu_s)
        brokers.start(number)
        self._wait_whole(brokers)

    def _cut_node(self, number: int) -> None:
        cluster = self._brokers
        assert isinstance(cluster, RabbitCluster)
        self._tell(f"node {number} of the broker is cut off for {_CUT_S:g} s")
        self.kills.append(Kill("link", number, time.monotonic()))
        cluster.cut(number)
        self._wait(time.monotonic() + _CUT_S)
        cluster.join(number)
        self._wait_whole(cluster)

    def _add_receiver(self) -> None:
        self._tell("a receiver is added, and the others start anew")
        self._receivers.begin_one_more()
        self._wait(time.monotonic() + _LEARN_S)
        for index in range(self._load.receivers):
            self.kills.append(Kill("move", index, self._receivers.restart(index)))
            self._wait(time.monotonic() + self._load.interval_s)

    def _wait_whole(self, brokers: Brokers) -> None:
        while not brokers.whole():
            self._wait(time.monotonic() + _WHOLE_S)
        self._wait(time.monotonic() + _WHOLE_S)

    def count_bytes(self) -> None:
        """Count what went through the nodes since they were started."""
        for number in range(len(self.carried)):
            self._count_bytes(number)

    def _count_bytes(self, number: int) -> None:
        assert self._brokers is not None
        self.carried[number] += self._brokers.carried(number)


def _places(*counts: int) -> list[float]:
    """For things of several kinds, where each stands if each kind is spread evenly."""
    return [(number + 0.5) / count for count in counts for number in range(count)]
