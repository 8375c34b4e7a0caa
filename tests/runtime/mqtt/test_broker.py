"""Real brokers and real connections: only we get in, only from this machine, and nothing stays behind."""

import contextlib
import queue
import socket
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgesem.errors import EnvironmentMissing, LinkError
from runtime.mqtt import loopback_broker as broker_module
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker, choose_kind, find_tool

MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
)
AMQTT = pytest.param("amqtt", marks=pytest.mark.skipif(find_spec("amqtt") is None, reason="amqtt is not installed"))


@pytest.fixture(scope="module", params=[MOSQUITTO, AMQTT])
def broker(request):
    with Broker(kind=request.param) as running:
        yield running


def test_messages_pass_between_two_connections(broker):
    arrived = queue.Queue()
    with (
        Connection(
            broker.address, name="b", subscribe="a/+", on_message=lambda *message: arrived.put(message)
        ) as receiver,
        Connection(broker.address, name="a") as sender,
    ):
        assert receiver.connected
        assert 0 < receiver.rtt_s < 5
        payloads = [bytes([number]) * 3000 for number in range(10)]
        for payload in payloads:
            sender.publish("a/b", payload)
        assert [arrived.get(timeout=10) for _ in payloads] == [("a/b", payload) for payload in payloads]
    assert not receiver.connected


def test_the_newest_version_that_the_broker_speaks_is_used(broker):
    with Connection(broker.address, name="x") as connection:
        assert connection.version == {"mosquitto": "5", "amqtt": "3.1.1"}[broker.kind]


@pytest.mark.parametrize("change", [{"user": None, "password": None}, {"password": "guess"}, {"user": "guess"}])
def test_nobody_else_gets_in(broker, change):
    with (
        pytest.raises(LinkError, match=r"Not authorized|Bad user"),
        Connection(replace(broker.address, **change), name="x"),
    ):
        pytest.fail("a stranger got in")


def test_it_listens_on_loopback_only(broker):
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("needs /proc/net/tcp")
    port = f":{broker.address.port:04X}"
    tables = [path.read_text() for path in (listening, Path("/proc/net/tcp6")) if path.exists()]
    lines = [line.split() for table in tables for line in table.splitlines()]
    bound = [line[1] for line in lines if line[1].endswith(port) and line[3] == "0A"]  # 0A: listening
    assert bound == ["0100007F" + port]


def test_secrets_stand_neither_in_a_repr_nor_on_a_command_line(broker):
    assert broker.address.password not in repr(broker.address)
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("needs /proc")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert broker.address.password.encode() not in path.read_bytes()
        except OSError:
            continue  # it has ended meanwhile


@pytest.mark.parametrize("kind", [MOSQUITTO, AMQTT])
def test_nothing_is_left_when_it_ends(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Broker(kind=kind) as broker:
        assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((broker.address.host, broker.address.port), timeout=1)


def test_a_machine_without_any_broker_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(broker_module, "find_tool", lambda name: None)
    assert choose_kind() == "amqtt"
    monkeypatch.setattr(broker_module, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentMissing, match="install"):
        choose_kind()


def test_a_broker_that_will_not_start_is_an_error_with_its_words(monkeypatch):
    monkeypatch.setattr("runtime.mqtt.mosquitto.find_tool", lambda name: "/bin/false")
    with pytest.raises(EnvironmentMissing, match="mosquitto did not start"), Broker(kind="mosquitto"):
        pytest.fail("it started")


@pytest.mark.parametrize("kind", [MOSQUITTO, AMQTT])
def test_nobody_gets_the_port_before_the_broker_listens(kind, monkeypatch):
    taken = []

    def take(broker):
        with socket.socket() as other, contextlib.suppress(OSError):
            other.bind((broker.address.host, broker.address.port))
            taken.append(broker.address.port)
        return listening(broker)

    listening = Broker._listening
    monkeypatch.setattr(Broker, "_listening", take)
    with Broker(kind=kind) as broker:
        socket.create_connection((broker.address.host, broker.address.port), timeout=10).close()
    assert not taken


def test_no_broker_at_an_address_is_a_link_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(LinkError, match=str(address)), Connection(address, name="x"):
        pytest.fail("connected to nothing")


def test_publishing_without_a_connection_is_a_link_error():
    with pytest.raises(LinkError):
        Connection(Address("127.0.0.1", 1), name="x").publish("a", b"")
