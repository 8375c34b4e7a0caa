"""The two ends of a bench run, each a process of its own in its namespace: a camera with a sender; broker and receiver.

`python -m runtime.bench.link.ends JOB.json`. Everything is noted by the machine's monotonic clock, which both share.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesem.errors import EnvironmentMissing, LinkError
from edgesem.files import write_whole
from edgesem.trace import load_trace
from runtime.bench.link.baselines import make_control
from runtime.bench.link.clip import ClipCodec, placeholder, read_clip
from runtime.bench.link.namespace import FAR_IP, enter_network
from runtime.capture.frame import Frame
from runtime.mqtt.connection import Address, Connection, Topics
from runtime.mqtt.mosquitto import find_tool
from runtime.process.child import Job, emit, run_child, stdin_closed, write_private
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.receiver.inbox import Inbox, Kept
from runtime.sender.sender import Sender
from runtime.sender.spool import Spool

PORT = 1883
_START_S = 10.0
_SPOOL_BYTES = 8 * 1024 * 1024
TOPICS = Topics(site="bench", device="camera", stream="main")


def near(job: Job) -> None:
    """Film, send, and write down what the sender said and when each picture was taken."""
    settle(job)
    stop = stdin_closed()
    clip = read_clip(Path(job["clip"]))
    pictures = [placeholder(index) for index in range(len(clip))]

    control = make_control(
        job["sender"],
        interval_s=1 / job["fps"],
        trace=load_trace(job["trace"]),
        start_s=job["start_s"],
        offset_s=job["offset_s"],
        unacked_bytes=lambda: connection.unacked_bytes(),
    )
    told: list[dict[str, Any]] = []
    captured_s: list[float] = []
    state: list[dict[str, Any]] = []
    _hurry(job)
    with contextlib.ExitStack() as stack:
        spool = None
        if job["promise_every"]:
            spool = stack.enter_context(contextlib.closing(Spool(Path(job["spool"]), max_bytes=_SPOOL_BYTES)))
        sender = Sender(
            codec=ClipCodec(clip),
            topics=TOPICS,
            control=control,
            publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
            tell=lambda **fields: told.append({"at_s": time.monotonic(), **fields}),
            spool=spool,
            promise_every=job["promise_every"],
            ack_timeout_s=15.0,
            stuck=lambda reason: connection.reconnect(reason),
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
        for tick in range(round(job["seconds"] * job["fps"])):
            if stop.wait(max(0.0, begin_s + tick / job["fps"] - time.monotonic())):
                break
            captured_s.append(time.monotonic())
            sender.offer(Frame(pictures[clip.index(tick)], str(tick), clock_ms()))
            state.append(control.state())
        stop.wait(max(0.0, begin_s + job["seconds"] - time.monotonic()))
        emit(event="filmed")
        # What was promised may come later, but not never.
        until_s = time.monotonic() + job["grace_s"]
        while spool is not None and spool.waiting and time.monotonic() < until_s and not stop.wait(0.1):
            pass
        waiting = spool.waiting if spool is not None else 0
        write_whole(
            Path(job["notes"]),
            json.dumps(
                {"begin_s": begin_s, "captured_s": captured_s, "told": told, "state": state, "waiting": waiting}
            ).encode(),
        )


def far(job: Job) -> None:
    """Serve as broker, receive and acknowledge, and write down when each layer came."""
    settle(job)
    stop = stdin_closed()
    came: list[tuple[float, int, int, int, int, int, int]] = []
    promised: list[int] = []

    def acknowledge(ack: Ack) -> None:
        with contextlib.suppress(LinkError):  # the broker is gone: the run is over
            connection.publish(TOPICS.ack, ack.to_bytes())

    def keep(packet: Any, kept: Kept) -> None:
        new = packet.frame not in promised
        promised.append(packet.frame)
        kept(True, new)

    inbox = Inbox(topics=TOPICS, bundle_id=job["bundle_id"], acknowledge=acknowledge, keep=keep)

    def on_message(topic: str, payload: bytes) -> None:
        now_s = time.monotonic()
        if inbox.take(topic, payload):
            from edgesem.packet.packet import Packet

            packet = Packet.from_bytes(payload)
            layer = -1 if packet.promised else packet.first_layer
            came.append((now_s, packet.frame, layer, len(packet.chunks), packet.q, len(payload), len(topic)))

    _hurry(job)
    with contextlib.ExitStack() as stack:
        if job["broker"] is None:
            stack.enter_context(mosquitto(Path(job["folder"])))
        connection = Connection(
            address_of(job), name="bench-receiver", subscribe=TOPICS.every_layer, on_message=on_message
        )
        stack.enter_context(connection)
        emit(event="ready")
        stop.wait()
    write_whole(Path(job["notes"]), json.dumps({"came": came, "promised": promised}).encode())


def settle(job: Job) -> None:
    """Enter the namespace that the job names, if it names one."""
    if job["namespace"]:
        enter_network(job["namespace"])


def _hurry(job: Job) -> None:
    """What delays this thread, and those that it starts, is to be the link and nothing else that this machine does."""
    if job["namespace"]:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def address_of(job: Job) -> Address:
    """Where the broker of a run is."""
    if job["broker"] is None:
        return Address(FAR_IP, PORT, version="5", congestion=job["congestion"])
    return Address(**{**job["broker"], "congestion": job["congestion"]})


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[None]:
    """A broker in this namespace, which nobody else can reach: hence no password."""
    server = find_tool("mosquitto")
    if server is None:
        raise EnvironmentMissing("the bench needs mosquitto in its namespace: apt install mosquitto")
    lines = [
        f"listener {PORT} {FAR_IP}",
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
    import socket

    until_s = time.monotonic() + _START_S
    pause = threading.Event()
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError), socket.create_connection((FAR_IP, PORT), timeout=1):
            return
        pause.wait(0.02)
    raise EnvironmentMissing(f"mosquitto did not start in its namespace (exit code {process.poll()})")


def end(job: Job) -> None:
    """The end that the job names."""
    {"near": near, "far": far}[job["end"]](job)


if __name__ == "__main__":
    raise SystemExit(run_child(end))
