"""RabbitMQ with its MQTT plugin, the real one on loopback: sealed and promised frames pass it at MQTT 3.1.1."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from edgesem.packet.keys import new_key
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import end, find_tool
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.real_broker import draw_pictures, wait_for_port

# Debian's own start script would change to the user `rabbitmq`; this is what it starts.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD = find_tool("epmd")
START_S = 120
pytestmark = pytest.mark.skipif(
    not SERVER.exists() or EPMD is None, reason="RabbitMQ is not installed: apt install rabbitmq-server"
)

SETTINGS = """
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = false
default_user = u
default_pass = p
disk_free_limit.absolute = 1MB
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """Port of a RabbitMQ whose data, secrets and even name server are its own."""
    folder = tmp_path_factory.mktemp("rabbit")
    port, names = free_port(), free_port()
    (folder / "rabbit.conf").write_text(SETTINGS.format(port=port))
    (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
    home = {name: str(folder / name) for name in ("HOME", "RABBITMQ_MNESIA_BASE", "RABBITMQ_LOG_BASE")}
    for path in home.values():
        Path(path).mkdir()
    env = {
        **os.environ,
        **home,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": "edgesem@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
    }
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    epmd = subprocess.Popen([EPMD, "-port", str(names), "-address", "127.0.0.1"], **quiet)
    server = subprocess.Popen([str(SERVER)], env=env, start_new_session=True, **quiet)
    try:
        wait_for_port(port, server, START_S)
        yield port
    finally:
        end(server)
        end(epmd)


def test_frames_pass_at_the_version_it_speaks(broker, tmp_path):
    draw_pictures(tmp_path / "pictures", count=9)
    new_key(tmp_path / "seal.key")
    (tmp_path / "password").write_text("p")
    (tmp_path / "password").chmod(0o600)
    there = ("--port", broker, "--user", "u", "--password-file", tmp_path / "password")
    there += ("--seal-key-file", tmp_path / "seal.key")
    out = ("--out", tmp_path / "out", "--workers", 1)
    receiver = EdgesemProcess("receive", "home/t/+", *there, *out, log=tmp_path / "receive.log")
    receiver.wait_for("ready")
    common = ("--device", "t", "--fps", 5, "--state-dir", tmp_path / "state")
    sender = EdgesemProcess(
        "send", tmp_path / "pictures", *there, *common, "--promise-every", 4, log=tmp_path / "send.log"
    )
    assert sender.finish() == 0
    sender.wait_for("acked")
    kept = {(event["epoch"], event["frame"]) for event in sender.events if event["event"] == "kept"}
    assert kept == set(sender.of("promised", lambda event: (event["epoch"], event["frame"])))
    assert len(kept) == 3
    receiver.wait_for("picture", lambda event: event["promised"])
    receiver.wait_for("picture", lambda event: not event["promised"])
    assert receiver.end() == 0


def test_a_receiver_that_comes_late_opens_a_sealed_stream_by_a_wildcard(broker, tmp_path):
    """RabbitMQ gives the retained birth to exact filters alone, and the next one is said ten minutes later."""
    draw_pictures(tmp_path / "pictures", count=3)
    new_key(tmp_path / "seal.key")
    (tmp_path / "password").write_text("p")
    (tmp_path / "password").chmod(0o600)
    there = ("--port", broker, "--user", "u", "--password-file", tmp_path / "password")
    there += ("--seal-key-file", tmp_path / "seal.key")
    common = ("--device", "late", "--fps", 2, "--loop", "--state-dir", tmp_path / "state")
    sender = EdgesemProcess("send", tmp_path / "pictures", *there, *common, log=tmp_path / "send.log")
    ends = [sender.end]
    try:
        sender.wait_for("sent")
        receiver = EdgesemProcess("receive", "home/late/+", *there, "--workers", 1, log=tmp_path / "receive.log")
        ends.insert(0, receiver.end)
        receiver.wait_for("ready")
        ready_s = time.monotonic()
        receiver.wait_for("picture")
        waited_s = time.monotonic() - ready_s
    finally:
        codes = [end() for end in ends]
    assert waited_s < 30
    assert codes == [0, 0]


def test_the_version_is_found_out(broker):
    with Connection(Address("127.0.0.1", broker, user="u", password="p"), name="x") as connection:
        assert connection.version == "3.1.1"
