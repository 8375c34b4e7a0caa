"""The process that reads the meter, so that the measured one is left alone.

Started as `python -m runtime.profile.sampler JOB.json`; it reads until its standard input is closed, keeps all in
memory and writes it to the file that the job names at the end. Both processes share the machine's monotonic clock.
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
from runtime.process.child import Child, Job, emit, run_child, stdin_closed
from runtime.profile.energy import Sample
from runtime.profile.meter import Meter, MeterFault
from runtime.profile.sensors import candidates
from runtime.profile.sysfs import Board
from runtime.profile.thermal import temperature_c

_READY_S = 60.0
_TEMPERATURE_S = 1.0
_MIN_PERIOD_S = 0.05  # 20 readings a second see all that lasts as long as a frame
_MAX_SHARE = 0.006  # of one core; the whole process then stays below one percent
_TRIALS = 5


def period_of(meter: Meter) -> float:
    """How often we read it where reading costs nothing."""
    return max(_MIN_PERIOD_S, meter.period_s)


def affordable_s(meter: Meter, period_s: float) -> float:
    """That period, or a longer one where reading would take too much of a core, as on a slow board."""
    with contextlib.suppress(MeterFault):
        meter.read()
        before_s = _cpu_s()
        for _ in range(_TRIALS):
            meter.read()
        return max(period_s, (_cpu_s() - before_s) / _TRIALS / _MAX_SHARE)
    return period_s


class Recorder:
    """Readings of a meter, each with the clock before and after; what fails is counted, not invented."""

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
    """Readings while inside the `with`; afterwards `samples`, `temperatures` and what the reading itself cost."""

    def __init__(self, meter: Meter | None, folder: Path, root: Path = Path("/")) -> None:
        self._meter, self._folder, self._root = meter, folder, root
        self._child: Child | None = None
        self.samples: list[Sample] = []
        self.temperatures: list[tuple[float, float]] = []
        """(time, degrees Celsius), once a second; empty where the board tells none."""
        self.period_s: float | None = None
        """How often the meter was read."""
        self.cpu_share: float | None = None
        """Processor time that the reading took, over the time that passed: at most so much was taken from others."""
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
            _, said = events.get(timeout=_READY_S)
        except queue.Empty:
            said = {"words": f"no answer within {_READY_S:.0f} s"}
        if said.get("event") != "ready":
            self._child.finish(timeout_s=1)
            raise EnvironmentMissing(f"the process that reads the meter did not start: {said.get('words', said)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.finish(timeout_s=30)
        if not self._out.exists():
            return
        told = json.loads(self._out.read_text("utf-8"))
        self.samples = [Sample(*sample) for sample in told["samples"]]
        self.temperatures = [(at_s, degrees) for at_s, degrees in told["temperatures"]]
        self.cpu_share, self.failed, self.faults = told["cpu_share"], told["failed"], told["faults"]
        self.period_s = told["period_s"]


def _work(job: Job) -> None:
    board = Board(Path(job["root"]))
    meter = next((found for found in candidates(board) if found.name == job["meter"]), None)
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
            degrees = temperature_c(board)
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
    Path(job["out"]).write_text(json.dumps(result), "utf-8")


def _cpu_s() -> float:
    own, spawned = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + spawned.ru_utime + spawned.ru_stime


if __name__ == "__main__":
    sys.exit(run_child(_work))
