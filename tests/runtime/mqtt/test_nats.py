"""A real NATS server with its MQTT interface: frames, promised frames, births to a wildcard, and what does not fit."""

import contextlib
import subprocess

import pytest

from edgesem.errors import LinkError
from edgesem.packet.keys import new_key
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import end, find_tool
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import draw_pictures, wait_for_port

NATS = find_tool("nats-server")
pytestmark = pytest.mark.skipif(NATS is None, reason="nats-server is not installed")
SETTINGS = """
server_name: edgesem
listen: "127.0.0.1:{clients}"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{port}" }}
authorization {{ user: u, password: p }}
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("nats"), free_port()
    (folder / "nats.conf").write_text(SETTINGS.format(clients=free_port(), port=port, folder=folder))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([NATS, "-c", str(folder / "nats.conf")], stdout=log, stderr=log)
    try:
        wait_for_port(port, server)
        yield port
    finally:
        end(server)


def test_a_sealed_stream_with_promised_frames_passes_also_to_a_receiver_that_comes_late(port, tmp_path):
    draw_pictures(tmp_path / "pictures", count=9)
    new_key(tmp_path / "seal.key")
    (tmp_path / "password").write_text("p")
    (tmp_path / "password").chmod(0o600)
    there = ("--port", port, "--user", "u", "--password-file", tmp_path / "password")
    there += ("--seal-key-file", tmp_path / "seal.key")
    common = ("--device", "t", "--fps", 4, "--loop", "--state-dir", tmp_path / "state", "--promise-every", 3)
    sender = EdgesemProcess("send", tmp_path / "pictures", *there, *common, log=tmp_path / "send.log")
    try:
        sender.wait_for("sent")
        out = ("--out", tmp_path / "out", "--workers", 1)
        receiver = EdgesemProcess("receive", "home/+/+", *there, *out, log=tmp_path / "receive.log")
        try:
            receiver.wait_for("picture", lambda event: not event["promised"])
            receiver.wait_for("picture", lambda event: event["promised"])
            sender.wait_for("acked")
            sender.wait_for("kept")
        finally:
            assert receiver.end() == 0
    finally:
        assert sender.end() == 0


def connection(port, name, **options):
    return Connection(Address("127.0.0.1", port, user="u", password="p"), name=name, **options)


def test_it_speaks_mqtt_3_and_hands_out_retained_messages_to_a_wildcard(port):
    heard, topics = [], Topics("retained", "a", "main")
    with connection(port, "sender") as sender:
        assert sender.version == "3.1.1"
        sender.publish(topics.birth, b"x", retain=True)
        wait_for(lambda: not sender._session.unconfirmed)
        filters = "edgesem/v1/retained/+/+/birth"
        with connection(port, "r", subscribe=filters, on_message=lambda *message: heard.append(message)) as receiver:
            wait_for(lambda: heard)
            assert receiver.retained_by_wildcard
    assert heard == [(topics.birth, b"x")]


def test_the_largest_promised_frame_passes(port):
    heard, topics = [], Topics("large", "a", "main")
    receiver = connection(port, "r", subscribe=topics.layer(0), on_message=lambda _, data: heard.append(len(data)))
    with receiver, connection(port, "sender") as sender:
        sender.publish(topics.layer(0), bytes(256 << 10))
        wait_for(lambda: heard)
    assert heard == [256 << 10]


def test_a_name_with_a_dot_does_not_fit(port):
    """NATS ends the connection of who publishes on such a topic."""
    with connection(port, "sender", retry=True) as sender:
        wait_for(lambda: sender.connected)
        with contextlib.suppress(LinkError):  # it may have ended before the call is over
            sender.publish(Topics("home", "cam.1", "main").layer(0), b"x")
        wait_for(lambda: sender.reconnects or sender.trouble)
