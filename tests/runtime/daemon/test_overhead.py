"""What sender and receiver add to the bare transport: 4 KB from hand to hand, ours and paho's by turns.

Ours: from `Sender.offer` to the frame that a decoder's thread would take, with a codec that takes no time. Bare: one
paho `publish` of the same bytes to the callback of a paho subscriber. Same broker, same processes, p50 of each. Where
it may, it runs with real-time priority: on a busy machine each thread that is woken waits, and ours are more.
"""

import multiprocessing
import os
import statistics
import threading
import time

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
PAUSE_S = 0.06  # twice that lies between two frames of ours, more than their interval


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
    bare.on_message = lambda *_: tell("bare")
    bare.loop_start()
    bare.subscribe("bare", 1)
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
    bare.loop_stop()


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
    payload, picture = bytes(SIZE_BYTES), np.zeros((240, 320, 3), np.uint8)
    took_s = {"bare": [], "ours": []}
    with sender, link:
        for number in range(WARM_UP + ROUNDS):
            for kind, send in (
                ("bare", lambda: bare.publish("bare", payload, 1)),
                ("ours", lambda: sender.offer(Frame(picture, "x", clock_ms()))),
            ):
                time.sleep(PAUSE_S)
                began_s = time.monotonic()
                send()
                while True:
                    assert here.poll(WAIT_S)
                    what, at_s = here.recv()
                    if what == kind:
                        break
                if number >= WARM_UP:
                    took_s[kind].append(at_s - began_s)
    here.send("end")
    far.join(WAIT_S)
    bare.disconnect()
    bare.loop_stop()
    p50_ms = {kind: 1000 * statistics.median(times) for kind, times in took_s.items()}
    ratio = p50_ms["ours"] / p50_ms["bare"]
    print(
        f"{SIZE_BYTES} bytes, p50 of {ROUNDS}: ours {p50_ms['ours']:.2f} ms, bare {p50_ms['bare']:.2f} ms, {ratio:.2f}"
        f"{'' if first_in_line else ', among what else runs here'}"
    )
