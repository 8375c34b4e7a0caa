"""Link emulator process: carries IP packets between the TUN devices of two network namespaces, as a trace says.

    sender's namespace:   TUN -> queue drained by the trace -> delay -> TUN of the receiver's
    receiver's namespace: TUN -> delay                               -> TUN of the sender's

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
from runtime.bench.link.link_queue import LinkQueue
from runtime.bench.link.namespace import MTU_BYTES, RECEIVER_IP, SENDER_IP, leave_network, open_tun
from runtime.process.child import Job, emit, run_child, stdin_closed

log = logging.getLogger(__name__)

_POLL_S = 0.1
_MAX_VALUES = {"scale": 1e3, "delay_s": 10.0, "loss": 1.0, "queue_bytes": 1e9}


class Settings:
    """JSON file of link parameters that may change during a run; an invalid file is logged and ignored."""

    def __init__(self, path: Path | None, queues: dict[str, list[LinkQueue]]) -> None:
        self._path, self._queues = path, queues
        self._applied_ns = 0

    def poll(self) -> None:
        """Apply the file if it has changed."""
        if self._path is None:
            return
        try:
            modified_ns = self._path.stat().st_mtime_ns
            if modified_ns == self._applied_ns:
                return
            self._applied_ns = modified_ns
            values = json.loads(self._path.read_text("utf-8"))
            for name, value in values.items():
                if name not in _MAX_VALUES or not 0 <= float(value) <= _MAX_VALUES[name]:
                    raise ValueError(f"{name} = {value!r}")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("link settings in %s are ignored: %s", self._path, error)
            return
        for name, value in values.items():
            for link in self._queues[name]:
                setattr(link, name, type(getattr(link, name))(value))


def emulate(job: Job) -> None:
    """Carry packets as the job says. Emits `ready` with both namespaces, at the end `done`."""
    sender_fd = leave_network()
    sender_tun = open_tun(own_ip=SENDER_IP, peer_ip=RECEIVER_IP)
    receiver_fd = leave_network()
    receiver_tun = open_tun(own_ip=RECEIVER_IP, peer_ip=SENDER_IP)
    with contextlib.suppress(OSError):  # a late millisecond here would look like one of the link
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))
    trace = load_trace(job["trace"])
    stop = stdin_closed()
    start_s = time.monotonic() + job.get("lead_s", 0.0)
    delay_s, loss, queue_bytes = job["delay_s"], job.get("loss", 0.0), job.get("queue_bytes", 256 * 1024)
    up = LinkQueue(
        trace=trace,
        start_s=start_s,
        offset_s=job.get("offset_s", 0.0),
        delay_s=delay_s,
        queue_bytes=queue_bytes,
        loss=loss,
    )
    down = LinkQueue(trace=None, start_s=start_s, delay_s=delay_s, loss=loss, seed=2)
    settings = Settings(
        Path(job["settings"]) if job.get("settings") else None,
        {"scale": [up], "delay_s": [up, down], "loss": [up, down], "queue_bytes": [up]},
    )
    pid = os.getpid()
    emit(event="ready", start_s=start_s, sender=f"/proc/{pid}/fd/{sender_fd}", receiver=f"/proc/{pid}/fd/{receiver_fd}")
    late_s, poll_s = 0.0, 0.0
    poller = select.poll()
    poller.register(sender_tun, select.POLLIN)
    poller.register(receiver_tun, select.POLLIN)
    while not stop.is_set():
        now_s = time.monotonic()
        for tun, link in ((sender_tun, up), (receiver_tun, down)):
            _read_all(tun, link, now_s)
        for link, tun in ((up, receiver_tun), (down, sender_tun)):
            for packet in link.take(now_s):
                with contextlib.suppress(BlockingIOError, OSError):
                    os.write(tun, packet)
        if now_s >= poll_s:
            poll_s = now_s + _POLL_S
            settings.poll()
        wake_s = min([at_s for at_s in (up.next_s(now_s), down.next_s(now_s)) if at_s is not None], default=poll_s)
        wait_s = max(0.0, min(wake_s, poll_s) - time.monotonic())
        waited_from_s = time.monotonic()
        if not poller.poll(max(1, round(wait_s * 1000)) if wait_s else 0):
            late_s = max(late_s, time.monotonic() - waited_from_s - wait_s)
    emit(event="done", dropped_packets=up.dropped_packets + down.dropped_packets, late_s=round(late_s, 4))


def _read_all(tun: int, link: LinkQueue, now_s: float) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            link.put(os.read(tun, MTU_BYTES + 64), now_s)


if __name__ == "__main__":
    raise SystemExit(run_child(emulate))
