"""What Linux tells of running processes, from /proc: memory, processor time, wake-ups."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


IDLE_CORES = 0.01


@dataclass(frozen=True)
class Load:
    """What a process does: share of a core that it takes, and how often a second one of its threads wakes up."""

    cores: float
    wakeups_hz: float


def rss_bytes(pid: int) -> int:
    """Resident memory, with what it shares with other processes, such as the code of libraries."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """Resident memory that is no other process's too: what the system gets back when this one ends."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def children(pid: int) -> list[int]:
    """Processes that a process has started and that live."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9


def load_over(pid: int, seconds: float) -> Load:
    """Watch a process for so long."""
    began_s, cpu_before_s, wakeups_before = time.monotonic(), cpu_s(pid), _wakeups(pid)
    time.sleep(seconds)
    took_s = time.monotonic() - began_s
    return Load((cpu_s(pid) - cpu_before_s) / took_s, (_wakeups(pid) - wakeups_before) / took_s)


def wait_until_idle(pid: int, longest_s: float) -> None:
    """Wait for a process to end the work that it has begun: a second in which it takes less than IDLE_CORES of a core.

    One that never does is waited for so long, and no longer.
    """
    end_s = time.monotonic() + longest_s
    while load_over(pid, 1.0).cores > IDLE_CORES and time.monotonic() < end_s:
        pass


def _wakeups(pid: int) -> int:
    found = (_SWITCHES.search((task / "status").read_text()) for task in _tasks(pid))
    return sum(int(one[1]) for one in found if one)


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())
