"""What sender and receiver add to the bare transport: 4 KB from hand to hand, ours and paho's by turns.

Ours: from `Sender.offer` to the frame that a decoder's thread would take, with a codec that takes no time. Bare: one
paho `publish` of the same bytes to the callback of a paho subscriber. Handed over: the same, but published by a thread
that is woken for it, and taken by another: the least that can be reached with our threads. Same broker, same processes,
p50 of each, and the processor time of both. Where it may, it runs with real-time priority: on a busy machine each
thread that is woken waits.
"""

import multiprocessing
import os
import statistics
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgesem.packet.packet import Packet
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.clock import clock_ms
from runtime.protocol.topics import Topics
from runtime.receiver.streams import Streams
from runtime.sender.pipeline import SenderPipeline
from tests.support.edgesem_process import WAIT_S
from tests.support.real_broker import Mosquitto

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
]
TOPICS = Topics("home", "t", "main")
BUNDLE = 7
SIZE_BYTES = 4096
ROUNDS, WARM_UP = 200, 30
PAUSE_S = 0.06  # thrice that lies between two frames of ours, more than their interval


class Codec:
    """Has its packet ready."""

    def analyze(self, frame):
        return frame.shape

    def pack(self, latent, *, budget_bytes, options):
        sizes = (400, 800, 1200, SIZE_BYTES - 2400 - 30)
        return Packet(
            BUNDLE,
            options.epoch,
            options.frame,
            options.time_ms,
            320,
            240,
            100,
            4,
            0,
            tuple(bytes(size) for size in sizes),
        )


def bare_client(port):
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set("u", "p")
    client.on_socket_open = lambda client, data, sock: sock.setsockopt(6, 1, 1)  # TCP_NODELAY, as ours has it
    client.connect("127.0.0.1", port)
    return client


def far_end(port, pipe):
    """Receive both ways, and tell when each thing came."""
    come = threading.Lock()

    def tell(kind):
        with come:
            pipe.send((kind, time.monotonic()))

    bare = bare_client(port)
    subscribed = threading.Event()
    bare.on_subscribe = lambda *_: subscribed.set()
    handed = SimpleQueue()
    bare.on_message = lambda _client, _data, message: (
        tell("bare") if message.topic == "bare" else handed.put(message.payload)
    )
    threading.Thread(target=lambda: [tell("handed over") for _ in iter(handed.get, None)], daemon=True).start()
    bare.loop_start()
    bare.subscribe([("bare", 1), ("handed", 1)])
    streams = Streams(
        bundle_ids=[BUNDLE], publish=lambda topic, payload, qos: connection.publish(topic, payload, qos=qos), decoders=2
    )
    connection = Connection(
        Address("127.0.0.1", port, user="u", password="p"),
        name="far",
        subscribe=TOPICS.every_layer,
        on_message=streams.on_message,
    )
    with connection:
        assert subscribed.wait(WAIT_S)
        pipe.send(("ready", 0.0))
        while not pipe.poll():
            job = streams.next_frame(0.5)
            if job is not None:
                tell("ours" if len(job[1].chunks) == 4 else "part")
                streams.done(job[0], decode_s=0.0, good=True)
    handed.put(None)
    bare.loop_stop()


def cpu_s(pid):
    """Processor time of a process so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@pytest.fixture
def first_in_line():
    """Whether this process, and what it starts, goes before all others."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        yield False
        return
    yield True
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def broker(first_in_line, tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.kill()


def test_what_is_added_to_the_bare_transport(broker, first_in_line):
    here, there = multiprocessing.Pipe()
    far = multiprocessing.get_context("spawn").Process(target=far_end, args=(broker.port, there), daemon=True)
    far.start()
    assert here.recv()[0] == "ready"
    bare = bare_client(broker.port)
    bare.loop_start()
    sender = SenderPipeline(
        codec=Codec(),
        topics=TOPICS,
        control=Control(interval_s=0.1, unacked_bytes=lambda: link.unacked_bytes()),
        publish=lambda topic, payload, confirm: link.publish(topic, payload, confirm=confirm),
    )
    link = Connection(
        Address("127.0.0.1", broker.port, user="u", password="p"),
        name="near",
        subscribe=[TOPICS.ack],
        on_message=sender.on_message,
        on_up=lambda: sender.connected(link.rtt_s),
        on_down=lambda _: sender.disconnected(),
    )
    payload, picture, handed = bytes(SIZE_BYTES), np.zeros((240, 320, 3), np.uint8), SimpleQueue()
    threading.Thread(
        target=lambda: [bare.publish("handed", given, 1) for given in iter(handed.get, None)], daemon=True
    ).start()
    took_s = {"bare": [], "handed over": [], "ours": []}
    spent_s = {kind: [] for kind in took_s}
    with sender, link:
        for number in range(WARM_UP + ROUNDS):
            for kind, send in (
                ("bare", lambda: bare.publish("bare", payload, 1)),
                ("handed over", lambda: handed.put(payload)),
                ("ours", lambda: sender.offer(Frame(picture, "x", clock_ms()))),
            ):
                far_before_s, here_before_s = cpu_s(far.pid), time.process_time()
                began_s = time.monotonic()
                send()
                while True:
                    assert here.poll(WAIT_S)
                    what, at_s = here.recv()
                    if what == kind:
                        break
                time.sleep(PAUSE_S)  # what confirms it is part of what it takes
                here_s = time.process_time() - here_before_s
                if number >= WARM_UP:
                    took_s[kind].append(at_s - began_s)
                    spent_s[kind].append(here_s + cpu_s(far.pid) - far_before_s)
    here.send("end")
    handed.put(None)
    far.join(WAIT_S)
    bare.disconnect()
    bare.loop_stop()
    for name, seconds in (("delay", took_s), ("processor time of both ends", spent_s)):
        p50_ms = {kind: 1000 * statistics.median(times) for kind, times in seconds.items()}
        told = ", ".join(f"{kind} {value:.2f} ms ({value / p50_ms['bare']:.2f})" for kind, value in p50_ms.items())
        print(
            f"{SIZE_BYTES} bytes, p50 of {ROUNDS}, {name}: {told}"
            f"{'' if first_in_line else ', among what else runs here'}"
        )
