"""Sampler: reads the power meter in a process of its own, so that the measured process is not disturbed.

`python -m runtime.profile.sampler JOB.json` reads until its standard input is closed, keeps all in memory and at the
end writes it to the file that the job names. Both processes share the machine's monotonic clock.
"""

from __future__ import annotations

import contextlib
import json
import queue
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from edgesem.errors import EnvironmentMissing
from edgesem.files import write_whole
from runtime.process.child import Child, Job, emit, run_child, stdin_closed
from runtime.profile.energy import Sample
from runtime.profile.meter import Meter, MeterFault
from runtime.profile.sensors import candidates
from runtime.profile.sysfs import Sysfs, temperature_c

_READY_S = 60.0
_TEMPERATURE_S = 1.0
_MIN_PERIOD_S = 0.05  # 20 readings a second see all that lasts as long as a frame
_MAX_SHARE = 0.006  # of one core; the whole process then stays below one percent
_TRIALS = 5


def period_of(meter: Meter) -> float:
    """Seconds between readings where reading costs nothing."""
    return max(_MIN_PERIOD_S, meter.period_s)


def affordable_s(meter: Meter, period_s: float) -> float:
    """The period, or a longer one where reading would take too much of a core, as on a slow board."""
    with contextlib.suppress(MeterFault):
        meter.read()
        before_s = _cpu_s()
        for _ in range(_TRIALS):
            meter.read()
        return max(period_s, (_cpu_s() - before_s) / _TRIALS / _MAX_SHARE)
    return period_s


class Recorder:
    """List of a meter's readings, each with the clock before and after; failures are counted and left out."""

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter, self._clock = meter, clock
        self.samples: list[Sample] = []
        self.faults: list[str] = []
        self.failed = 0

    def take(self) -> None:
        """Read once."""
        start_s = self._clock()
        try:
            value = self._meter.read()
        except MeterFault as fault:
            self.failed += 1
            if str(fault) not in self.faults and len(self.faults) < 5:
                self.faults.append(str(fault))
            return
        self.samples.append(Sample(start_s, self._clock(), value))


class Sampler:
    """Context manager that runs the sampling process; afterwards `samples`, `temperatures` and the cost of reading."""

    def __init__(self, meter: Meter | None, folder: Path, root: Path = Path("/")) -> None:
        self._meter, self._folder, self._root = meter, folder, root
        self._child: Child | None = None
        self.samples: list[Sample] = []
        self.temperatures: list[tuple[float, float]] = []
        """(time, degrees Celsius), once a second; empty where the board tells none."""
        self.period_s: float | None = None
        """Seconds between two readings."""
        self.cpu_share: float | None = None
        """Processor time of the sampling process over the time that passed; 1 is one whole core."""
        self.failed = 0
        self.faults: list[str] = []

    def __enter__(self) -> Sampler:
        events: queue.Queue[tuple[str, Job]] = queue.Queue()
        self._out = self._folder / "samples.json"
        name = self._meter.name if self._meter is not None else None
        job = {"meter": name, "root": str(self._root), "out": str(self._out)}
        self._child = Child(
            name="sampler", module="runtime.profile.sampler", job=job, folder=self._folder, events=events
        )
        try:
            _, answer = events.get(timeout=_READY_S)
        except queue.Empty:
            answer = {"words": f"no answer within {_READY_S:.0f} s"}
        if answer.get("event") != "ready":
            self._child.finish(timeout_s=1)
            raise EnvironmentMissing(f"the process that reads the meter did not start: {answer.get('words', answer)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.finish(timeout_s=30)
        if not self._out.exists():
            return
        recorded = json.loads(self._out.read_text("utf-8"))
        self.samples = [Sample(*sample) for sample in recorded["samples"]]
        self.temperatures = [(at_s, degrees) for at_s, degrees in recorded["temperatures"]]
        self.cpu_share, self.failed, self.faults = recorded["cpu_share"], recorded["failed"], recorded["faults"]
        self.period_s = recorded["period_s"]


def _work(job: Job) -> None:
    sysfs = Sysfs(Path(job["root"]))
    meter = next((found for found in candidates(sysfs) if found.name == job["meter"]), None)
    closed = stdin_closed()
    recorder = Recorder(meter) if meter is not None else None
    temperatures: list[tuple[float, float]] = []
    period_s = affordable_s(meter, period_of(meter)) if meter is not None else _TEMPERATURE_S
    emit(event="ready")
    started_s, cpu_s = time.monotonic(), _cpu_s()
    next_s = next_temperature_s = started_s
    while not closed.wait(max(0.0, next_s - time.monotonic())):
        if recorder is not None:
            recorder.take()
        if time.monotonic() >= next_temperature_s:
            next_temperature_s += _TEMPERATURE_S
            degrees = temperature_c(sysfs)
            if degrees is not None:
                temperatures.append((time.monotonic(), degrees))
        # A reading that comes late shifts the beat instead of being followed by a burst.
        next_s = max(next_s + period_s, time.monotonic())
    result: dict[str, Any] = {
        "samples": recorder.samples if recorder else [],
        "failed": recorder.failed if recorder else 0,
        "faults": recorder.faults if recorder else [],
        "temperatures": temperatures,
        "period_s": period_s,
        "cpu_share": (_cpu_s() - cpu_s) / max(1e-6, time.monotonic() - started_s),
    }
    write_whole(Path(job["out"]), json.dumps(result).encode())


def _cpu_s() -> float:
    own, spawned = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + spawned.ru_utime + spawned.ru_stime


if __name__ == "__main__":
    sys.exit(run_child(_work))
