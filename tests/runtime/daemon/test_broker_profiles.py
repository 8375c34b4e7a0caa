"""Brokers that people have: the guide's settings are taken, and the daemons keep to limits as AWS IoT Core has them."""

import json
import queue
import re
import subprocess
from pathlib import Path

import pytest

from edgesem.config import load_config
from runtime.daemon.receive_settings import ReceiveSettings
from runtime.daemon.send_settings import SendSettings
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import end, find_tool
from runtime.receiver.stream_filter import StreamFilter
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.real_broker import draw_pictures, wait_for_port

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "brokers.md").read_text("utf-8")
needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
SLASHES, FILTERS = 7, 50  # AWS IoT Core's limits on a topic, and on one connection

# What AWS IoT Core allows, as far as mosquitto can: packets, QoS, keep-alive, levels of a topic (to publish on).
AWS = """
listener {port} 127.0.0.1
allow_anonymous true
max_packet_size 131072
max_qos 1
max_keepalive 1200
acl_file {folder}/acl
log_dest file {folder}/broker.log
log_type all
"""


def snippets(kind):
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("number", range(5))
def test_the_guides_settings_are_taken(number, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(snippets("toml")[number], "utf-8")
    for kind in (SendSettings, ReceiveSettings):
        broker = load_config(config, kind).broker
        assert (broker.port, broker.tls) == (8883, True)
        assert broker.password_file or (broker.cert_file and broker.key_file)


def test_the_guides_policy_is_json():
    [policy] = snippets("json")
    assert {one["Effect"] for one in json.loads(policy)["Statement"]} == {"Allow"}


@pytest.fixture
def mosquitto(tmp_path):
    """Starts mosquitto with a configuration, on a port; it ends with the test."""
    running = []

    def start(config, port):
        (tmp_path / "mosquitto.conf").write_text(config, "utf-8")
        words = [find_tool("mosquitto"), "-c", str(tmp_path / "mosquitto.conf")]
        running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for_port(port, running[-1])

    yield start
    for process in running:
        end(process)


def film(tmp_path, there, *, receiver_flags=()):
    """A sender, and a receiver that also speaks to Home Assistant; returns their logs when all is kept and drawn."""
    pictures = draw_pictures(tmp_path / "pictures", count=4)
    streams = ("home/gate/main", "home/+/+", "other/+/+")  # with what Home Assistant asks: more than eight filters
    out = ("--out", tmp_path / "out", "--workers", 1, "--home-assistant", "--state-dir", tmp_path / "receiver")
    receiver = EdgesemProcess("receive", *streams, *there, *out, *receiver_flags, log=tmp_path / "receive.log")
    try:
        receiver.wait_for("ready")
        common = ("--device", "gate", "--fps", 5, "--promise-every", 1, "--state-dir", tmp_path / "sender")
        sender = EdgesemProcess("send", pictures, *there, *common, log=tmp_path / "send.log")
        assert sender.finish() == 0
        receiver.wait_for("picture", lambda event: event["promised"])
        assert sender.of("kept", lambda event: event["frame"])
    finally:
        assert receiver.end() == 0
    return (tmp_path / "receive.log").read_text() + (tmp_path / "send.log").read_text()


@needs_mosquitto
def test_the_guides_mosquitto_works(mosquitto, tmp_path):
    port = free_port()
    config = next(text for text in snippets("text") if "listener" in text)
    subprocess.run([find_tool("mosquitto_passwd"), "-b", "-c", tmp_path / "passwd", "gate", "p"], check=True)
    config = re.sub(r"listener \d+\n", f"listener {port} 127.0.0.1\n", config)
    config = re.sub(r"(cert|key)file .*\n", "", config)  # TLS has tests of its own
    config = config.replace("/etc/mosquitto/passwd", str(tmp_path / "passwd"))
    mosquitto(f"user root\npersistence_location {tmp_path}/\n{config}", port)
    (tmp_path / "password").write_text("p")
    (tmp_path / "password").chmod(0o600)
    said = film(tmp_path, ("--port", port, "--user", "gate", "--password-file", tmp_path / "password"))
    assert "refuse" not in said


@needs_mosquitto
def test_all_topics_and_filters_fit_a_broker_with_the_limits_of_aws(mosquitto, tmp_path):
    port, topics = free_port(), queue.Queue()
    levels = ["/".join("+" * count) for count in range(1, SLASHES + 2)]
    (tmp_path / "acl").write_text("".join(f"topic readwrite {level}\n" for level in levels))
    (tmp_path / "acl").chmod(0o700)
    mosquitto(f"user root\n{AWS.format(port=port, folder=tmp_path)}", port)
    with Connection(
        Address("127.0.0.1", port), name="all", subscribe="#", on_message=lambda topic, _: topics.put(topic)
    ) as connection:
        assert connection.limit_bytes == 131072
        said = film(tmp_path, ("--port", port))
        log = (tmp_path / "broker.log").read_text()
    heard = set()
    while not topics.empty():
        heard.add(topics.get())
    assert {topic.rpartition("/")[2] for topic in heard} >= {"0", "birth", "state", "ack", "jpeg", "config"}
    assert max(topic.count("/") for topic in heard) <= SLASHES
    filters = re.findall(r"^\d+: \t(\S+) \(QoS", log, re.MULTILINE)
    assert len(filters) > 8
    assert max(name.count("/") for name in filters) <= SLASHES
    assert "Denied" not in log
    assert "refuse" not in said


def test_sixteen_streams_are_all_that_one_connection_to_aws_has_filters_for():
    names = [f"home/cam{number}/main" for number in range(16)]
    assert len(StreamFilter(names).topics()) <= FILTERS < len(StreamFilter([*names, "home/more/main"]).topics())
