"""A thin link in a process of its own: packets of one namespace's TUN device, held and carried to another's.

    near namespace: TUN -> queue drained by the trace -> delay -> TUN of the far namespace
    far namespace:  TUN -> delay                               -> TUN of the near one

`python -m runtime.bench.link.emulator JOB.json` runs until its standard input closes. The job may name a `settings`
file, JSON with `scale`, `delay_s`, `loss` and `queue_bytes`, which is read again whenever it changes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time
from pathlib import Path

from edgesem.trace import load_trace
from runtime.bench.link.namespace import FAR_IP, MTU_BYTES, NEAR_IP, leave_network, open_tun
from runtime.bench.link.queueing import Line
from runtime.process.child import Job, emit, run_child, stdin_closed

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.1
_BINS_S = 0.1
_LIMITS = {"scale": 1e3, "delay_s": 10.0, "loss": 1.0, "queue_bytes": 1e9}


class Settings:
    """A JSON file of numbers that may change while the link runs; what is wrong in it is logged and left alone."""

    def __init__(self, path: Path | None, lines: dict[str, list[Line]]) -> None:
        self._path, self._lines = path, lines
        self._seen_ns = 0

    def look(self) -> None:
        """Apply the file if it has changed."""
        if self._path is None:
            return
        try:
            seen_ns = self._path.stat().st_mtime_ns
            if seen_ns == self._seen_ns:
                return
            self._seen_ns = seen_ns
            values = json.loads(self._path.read_text("utf-8"))
            for name, value in values.items():
                if name not in _LIMITS or not 0 <= float(value) <= _LIMITS[name]:
                    raise ValueError(f"{name} = {value!r}")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("settings %s not taken: %s", self._path, error)
            return
        for name, value in values.items():
            for line in self._lines[name]:
                setattr(line, name, type(getattr(line, name))(value))


def emulate(job: Job) -> None:
    """Carry packets as the job says, and tell the two namespaces, then what passed in each 100 ms."""
    near_fd = leave_network()
    near = open_tun(own_ip=NEAR_IP, peer_ip=FAR_IP)
    far_fd = leave_network()
    far = open_tun(own_ip=FAR_IP, peer_ip=NEAR_IP)
    with contextlib.suppress(OSError):  # a late millisecond here would be taken for the link's
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    trace = load_trace(job["trace"])
    stop = stdin_closed()
    start_s = time.monotonic() + job.get("lead_s", 0.0)
    delay_s, loss, queue_bytes = job["delay_s"], job.get("loss", 0.0), job.get("queue_bytes", 256 * 1024)
    up = Line(
        trace=trace,
        start_s=start_s,
        offset_s=job.get("offset_s", 0.0),
        delay_s=delay_s,
        queue_bytes=queue_bytes,
        loss=loss,
    )
    down = Line(trace=None, start_s=start_s, delay_s=delay_s, loss=loss, seed=2)
    settings = Settings(
        Path(job["settings"]) if job.get("settings") else None,
        {"scale": [up], "delay_s": [up, down], "loss": [up, down], "queue_bytes": [up]},
    )
    pid = os.getpid()
    emit(event="ready", start_s=start_s, near=f"/proc/{pid}/fd/{near_fd}", far=f"/proc/{pid}/fd/{far_fd}")
    bins: list[tuple[int, int]] = []
    latest_s, look_s = 0.0, 0.0
    poll = select.poll()
    poll.register(near, select.POLLIN)
    poll.register(far, select.POLLIN)
    while not stop.is_set():
        now_s = time.monotonic()
        for tun, line in ((near, up), (far, down)):
            _read_all(tun, line, now_s)
        for line, tun in ((up, far), (down, near)):
            for packet in line.take(now_s):
                with contextlib.suppress(BlockingIOError, OSError):
                    os.write(tun, packet)
        while len(bins) < (now_s - start_s) / _BINS_S - 1:
            bins.append((up.passed_bytes, up.queued_bytes))
        if now_s >= look_s:
            look_s = now_s + _LOOK_UP_S
            settings.look()
        wake_s = min([at_s for at_s in (up.next_s(now_s), down.next_s(now_s)) if at_s is not None], default=look_s)
        wait_s = max(0.0, min(wake_s, look_s) - time.monotonic())
        asked_s = time.monotonic()
        if not poll.poll(max(1, round(wait_s * 1000)) if wait_s else 0):
            latest_s = max(latest_s, time.monotonic() - asked_s - wait_s)
    emit(
        event="done",
        bins_s=_BINS_S,
        passed_bytes=[passed for passed, _ in bins],
        queued_bytes=[queued for _, queued in bins],
        dropped_packets=up.dropped_packets + down.dropped_packets,
        latest_s=round(latest_s, 4),
    )


def _read_all(tun: int, line: Line, now_s: float) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            line.put(os.read(tun, MTU_BYTES + 64), now_s)


if __name__ == "__main__":
    raise SystemExit(run_child(emulate))
