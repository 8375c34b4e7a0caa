"""What months bring: connections lost without number, and streams that come and go under ever new names."""

import os
import socket
import threading
from pathlib import Path

import pytest

from runtime.daemon.receive import run_receive
from runtime.daemon.receive_settings import DrawSettings, OutSettings, ReceiveSettings
from runtime.mqtt import connection as mqtt
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.mqtt.settings import BrokerSettings
from runtime.protocol.topics import Topics
from runtime.receiver import stream_table
from runtime.receiver.options import Limits
from runtime.receiver.streams import Streams
from tests.support.publishing import frame, plain
from tests.support.real_broker import Mosquitto

needs_broker = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc to count files in")


def open_files(suffix=""):
    """What this process has open, of one kind."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(path))
        except OSError:  # the folder that is being listed
            continue
    return [name for name in found if name.endswith(suffix)]


@pytest.fixture
def at_once(monkeypatch):
    """Nobody waits before a new connection is tried."""
    monkeypatch.setattr(mqtt, "_SHORTEST_WAIT_S", 1e-3)
    monkeypatch.setattr(mqtt, "_LONGEST_WAIT_S", 1e-3)


@needs_proc
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho drops it where the handshake fails
@pytest.mark.parametrize("tls", [False, True])
def test_connections_that_fail_leave_nothing_open(at_once, tls):
    tried = threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return
                tried.release()

        threading.Thread(target=hang_up, daemon=True).start()
        with Connection(Address("127.0.0.1", server.getsockname()[1], tls=tls), name="x", retry=True):
            counts = []
            for _ in range(2):
                for _ in range(40):
                    assert tried.acquire(timeout=60)
                counts.append(len(open_files()))
        server.shutdown(socket.SHUT_RDWR)
    assert counts[1] <= counts[0] + 4  # a connection under way has three


@needs_proc
@needs_broker
def test_connections_that_are_lost_leave_nothing_open(at_once, tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    up = threading.Semaphore(0)
    address = Address("127.0.0.1", broker.port, user="u", password="p")
    try:
        with Connection(address, name="x", subscribe="a/b", on_up=up.release, retry=True) as connection:
            counts = []
            for _ in range(2):
                for _ in range(15):
                    assert up.acquire(timeout=60)
                    connection.publish("a/b", b"x")
                    connection.reconnect("that is the test")
                counts.append((len(open_files()), threading.active_count()))
            assert counts[1][0] <= counts[0][0] + 4
            assert counts[1][1] <= counts[0][1] + 2
    finally:
        broker.kill()


def deliver(receiver, packet, name):
    topics = Topics("home", name, "main")
    for part in packet.split():
        receiver.on_message(topics.layer(part.first_layer), part.to_bytes())


def test_streams_that_come_and_go_are_forgotten_and_strangers_displace_none(monkeypatch):
    monkeypatch.setattr(stream_table, "_UNSEEN_S", 0.0)
    forgotten = []
    receiver = Streams(bundle_ids=[7], publish=lambda *_: None, limits=Limits(streams=4), on_forgotten=forgotten.append)
    for number in range(100):
        deliver(receiver, plain(number), f"camera{number}")
        receiver.on_message(f"edgesem/v1/home/stranger{number}/main/pkt/0", b"no packet")
    names = [f"home/camera{number}/main" for number in range(100)]
    assert [stream.name for stream in receiver.all()] == names[-4:]
    assert forgotten == names[:-4]
    assert receiver.strays == 100


@needs_proc
@needs_broker
def test_a_daemon_holds_nothing_of_streams_that_have_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(stream_table, "_FORGET_S", 0.0)
    broker = Mosquitto(tmp_path / "broker")
    address = Address("127.0.0.1", broker.port, user="u", password="p")
    told = threading.Semaphore(0)
    open_videos = []

    def on_event(event):
        if event["event"] == "picture":
            open_videos.append(len(open_files(".mkv")))
        told.release()

    def film():
        """Eight cameras, one after the other; each goes when its first picture is there."""
        told.acquire(timeout=60)  # ready
        with Connection(address, name="cameras") as link:
            for camera in range(8):
                topics = Topics("home", f"camera{camera}", "main")
                for number in range(60):  # the receiver may not have subscribed yet
                    link.publish(topics.layer(0), frame(number).to_bytes())
                    if told.acquire(timeout=1):
                        break

    cameras = threading.Thread(target=film)
    cameras.start()
    try:
        settings = ReceiveSettings(
            broker=BrokerSettings(port=broker.port, user="u", password_file=tmp_path / "broker" / "password"),
            draw=DrawSettings(workers=1, max_streams=2),
            out=OutSettings(folder=tmp_path / "out", kind="mkv", http="0"),
        )
        run_receive(settings, on_event, max_pictures=8)
    finally:
        cameras.join(60)
        broker.kill()
    assert len(open_videos) == 8
    assert max(open_videos) <= 2
    assert len(list((tmp_path / "out").rglob("video*.mkv"))) == 8
