"""Endpoint processes of a bench run over precoded frames: a camera with a sender; a broker with a receiver.

`python -m runtime.bench.link.endpoints JOB.json` runs the one that the job's `role` names. All times are those of the
machine's monotonic clock, which both share.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesem.errors import EnvironmentMissing, LinkError
from edgesem.files import write_whole
from edgesem.packet.keys import write_private
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from edgesem.trace import load_trace
from runtime.bench.link.baselines import make_control
from runtime.bench.link.clip import ClipCodec, placeholder, read_clip
from runtime.bench.link.namespace import RECEIVER_IP, enter_network
from runtime.capture.frame import Frame
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.process.child import Job, emit, run_child, stdin_closed
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox, Settle
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.spool import Spool

TOPICS = Topics(site="bench", device="camera", stream="main")
ACK_TIMEOUT_S = 15.0
_PORT = 1883
_START_S = 10.0
_SPOOL_BYTES = 8 * 1024 * 1024


def run_sender(job: Job) -> None:
    """Film and send; log what the sender reported, its control's states, and when each picture was taken."""
    enter_job(job)
    stop = stdin_closed()
    clip = read_clip(Path(job["clip"]))
    pictures = [placeholder(index) for index in range(len(clip))]
    control = make_control(
        job["control"],
        interval_s=1 / job["fps"],
        trace=load_trace(job["trace"]),
        start_s=job["start_s"],
        offset_s=job["offset_s"],
        unacked_bytes=lambda: connection.unacked_bytes(),
    )
    events: list[dict[str, Any]] = []
    captured_s: list[float] = []
    states: list[dict[str, Any]] = []
    _use_real_time_priority(job)
    with contextlib.ExitStack() as stack:
        spool = None
        if job["promise_every"]:
            spool = stack.enter_context(contextlib.closing(Spool(Path(job["spool"]), max_bytes=_SPOOL_BYTES)))
        sender = SenderPipeline(
            codec=ClipCodec(clip),
            topics=TOPICS,
            control=control,
            publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
            on_event=lambda event: events.append({"at_s": time.monotonic(), **event.as_dict()}),
            spool=spool,
            on_stuck=lambda reason: connection.reconnect(reason),
            options=PipelineOptions(promise_every=job["promise_every"], ack_timeout_s=ACK_TIMEOUT_S),
        )
        connection = Connection(
            address_of(job),
            name="bench-sender",
            subscribe=TOPICS.ack,
            on_message=sender.on_message,
            on_up=lambda: sender.connected(connection.rtt_s),
            on_down=lambda _: sender.disconnected(),
        )
        stack.enter_context(sender)
        stack.enter_context(connection)
        emit(event="ready")
        begin_s = max(time.monotonic(), job["start_s"])  # so that all senders have the same part of the trace
        for tick in ticks(job, begin_s, stop):
            captured_s.append(time.monotonic())
            sender.offer(Frame(pictures[clip.index(tick)], str(tick), clock_ms()))
            states.append(control.state())
        emit(event="filmed")
        # Promised frames may be late, but must not be lost.
        until_s = time.monotonic() + job["grace_s"]
        while spool is not None and spool.waiting and time.monotonic() < until_s and not stop.wait(0.1):
            pass
        undelivered = spool.waiting if spool is not None else 0
        log = {"begin_s": begin_s, "captured_s": captured_s, "events": events, "states": states}
        write_log(job, {**log, "undelivered": undelivered})


def run_receiver(job: Job) -> None:
    """Serve as broker, receive and acknowledge; log when each layer arrived."""
    enter_job(job)
    stop = stdin_closed()
    arrivals: list[tuple[float, int, int, int, int, int, int]] = []
    promised: list[int] = []

    def acknowledge(ack: Ack, _seal: Seal | None) -> None:
        with contextlib.suppress(LinkError):  # the broker is gone: the run is over
            connection.publish(TOPICS.ack, ack.to_bytes())

    def keep(packet: Packet, settle: Settle) -> None:
        new = packet.frame not in promised
        promised.append(packet.frame)
        settle(True, new, lambda: True)

    inbox = Inbox(topics=TOPICS, bundle_ids=[job["bundle_id"]], acknowledge=acknowledge, keep=keep)

    def on_message(topic: str, payload: bytes) -> None:
        now_s = time.monotonic()
        if inbox.take(topic, payload):
            arrivals.append(arrival(now_s, topic, payload))

    _use_real_time_priority(job)
    with contextlib.ExitStack() as stack:
        if job["broker"] is None:
            stack.enter_context(mosquitto(Path(job["folder"])))
        connection = Connection(
            address_of(job), name="bench-receiver", subscribe=TOPICS.every_layer, on_message=on_message
        )
        stack.enter_context(connection)
        emit(event="ready")
        stop.wait()
    write_log(job, {"arrivals": arrivals, "promised": promised})


def arrival(now_s: float, topic: str, payload: bytes) -> tuple[float, int, int, int, int, int, int]:
    """A received message as `figures.RunLog` has it."""
    packet = Packet.from_bytes(payload)
    first_layer = -1 if packet.promised else packet.first_layer
    return now_s, packet.frame, first_layer, len(packet.chunks), packet.q, len(payload), len(topic)


def enter_job(job: Job) -> None:
    """Enter the network namespace that the job names, if it names one."""
    if job["namespace"]:
        enter_network(job["namespace"])


def ticks(job: Job, begin_s: float, stop: threading.Event) -> Iterator[int]:
    """The number of each picture when its time has come, then the wait for the run's end; less at the stop."""
    for tick in range(round(job["seconds"] * job["fps"])):
        if stop.wait(max(0.0, begin_s + tick / job["fps"] - time.monotonic())):
            return
        yield tick
    stop.wait(max(0.0, begin_s + job["seconds"] - time.monotonic()))


def address_of(job: Job) -> Address:
    """Address of the run's broker, as this endpoint reaches it."""
    if job["broker"] is None:
        return Address(RECEIVER_IP, _PORT, version="5", congestion=job["congestion"])
    return Address(**{**job["broker"], "congestion": job["congestion"]})


def write_log(job: Job, log: dict[str, Any]) -> None:
    """Write what was logged where the bench expects it."""
    write_whole(Path(job["log"]), json.dumps(log).encode())


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[None]:
    """A broker in this namespace, which nobody else can reach: hence no password."""
    server = find_tool("mosquitto")
    if server is None:
        raise EnvironmentMissing("the bench needs mosquitto in its namespace: apt install mosquitto")
    lines = [
        f"listener {_PORT} {RECEIVER_IP}",
        "allow_anonymous true",
        "persistence false",
        # Without it the broker holds a confirmation back until the one before is acknowledged: a round trip each.
        "set_tcp_nodelay true",
        "max_inflight_messages 1000",
        "log_dest none",
    ]
    if os.geteuid() == 0:
        lines.append("user root")
    write_private(folder / "mosquitto.conf", "\n".join(lines) + "\n")
    process = subprocess.Popen([server, "-c", str(folder / "mosquitto.conf")], stdin=subprocess.DEVNULL)
    try:
        _wait_for(process)
        yield
    finally:
        process.terminate()
        process.wait(5)


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _START_S
    pause = threading.Event()
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError), socket.create_connection((RECEIVER_IP, _PORT), timeout=1):
            return
        pause.wait(0.02)
    raise EnvironmentMissing(f"mosquitto did not start in its namespace (exit code {process.poll()})")


def _use_real_time_priority(job: Job) -> None:
    """Let nothing but the link delay this thread and those that it starts."""
    if job["namespace"]:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def run_role(job: Job) -> None:
    """Run the endpoint that the job names."""
    {"sender": run_sender, "receiver": run_receiver}[job["role"]](job)


if __name__ == "__main__":
    raise SystemExit(run_child(run_role))
