"""Processor time and memory of processes, as Linux tells of them in /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgesem.errors import EnvironmentMissing

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessUse:
    """What a process has used so far; differences and sums of them are meant."""

    cpu_s: float = 0.0
    rss_bytes: int = 0

    def __add__(self, other: ProcessUse) -> ProcessUse:
        return ProcessUse(self.cpu_s + other.cpu_s, self.rss_bytes + other.rss_bytes)

    def since(self, before: ProcessUse) -> ProcessUse:
        """The processor time since then, and the memory now."""
        return ProcessUse(self.cpu_s - before.cpu_s, self.rss_bytes)


def use_of(pids: Iterable[int]) -> ProcessUse:
    """What these processes have used so far, together; one that has ended counts nothing."""
    total = ProcessUse()
    for pid in pids:
        try:
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
            pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
        except OSError:
            continue
        cpu_s = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        total += ProcessUse(cpu_s, pages * os.sysconf("SC_PAGE_SIZE"))
    return total


def descendants_of(pid: int) -> list[int]:
    """Processes that a process has started, that these have started, and so on, and that live."""
    found = []
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        try:
            children = [int(child) for child in path.read_text().split()]
        except OSError:  # the thread has just ended
            continue
        for child in children:
            found += [child, *descendants_of(child)]
    return found


def busy_s() -> float:
    """Processor seconds of all processes since the machine was started. EnvironmentMissing where there is no /proc."""
    try:
        fields = (_PROC / "stat").read_text().splitlines()[0].split()[1:9]  # user, nice, system, idle, iowait, ...
    except OSError as error:
        raise EnvironmentMissing("the load of processes is read from /proc, which only Linux has") from error
    return sum(int(field) for place, field in enumerate(fields) if place not in (3, 4)) / os.sysconf("SC_CLK_TCK")
