"""Several brokers: a client goes on at another when one is lost, and promised frames survive that."""

import itertools
import queue
import signal
import subprocess

import pytest

from edgesem.config import load_config
from edgesem.errors import LinkError, UsageError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.mqtt.settings import BrokerSettings
from tests.support.edgesem_process import WAIT_S, EdgesemProcess, free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import draw_pictures, wait_for_port

needs_broker = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


class Bridged:
    """Two real mosquittos, each of which hands on to the other what it gets."""

    def __init__(self, folder):
        self.ports, self._folder = [free_port(), free_port()], folder
        self._processes = {}
        for port in self.ports:
            self.start(port)

    def start(self, port):
        [other] = set(self.ports) - {port}
        lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "max_inflight_messages 200"]
        if port == self.ports[0]:  # one bridge for both directions
            lines += ["connection other", f"address 127.0.0.1:{other}", "topic # both 1", "restart_timeout 1 2"]
        path = self._folder / f"{port}.conf"
        path.write_text("\n".join(lines) + "\n")
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([find_tool("mosquitto"), "-c", str(path)], **quiet)
        wait_for_port(port, process)
        self._processes[port] = process

    def kill(self, port):
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def end(self):
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def brokers(tmp_path):
    folder = tmp_path / "brokers"
    folder.mkdir()
    running = Bridged(folder)
    yield running
    running.end()


def all_of(ports):
    return [Address("127.0.0.1", port) for port in ports]


@needs_broker
def test_a_client_goes_on_at_the_other_broker(brokers):
    ups = queue.Queue()
    with Connection(all_of(brokers.ports), name="x", on_up=lambda: ups.put(1)) as connection:
        ups.get(timeout=WAIT_S)
        first = connection.address.port
        brokers.kill(first)
        ups.get(timeout=WAIT_S)
        assert connection.address.port in set(brokers.ports) - {first}
        assert connection.reconnects == 1


@needs_broker
def test_a_broker_that_is_not_there_is_passed_over(brokers):
    nobody = free_port()
    for _ in range(4):  # the order is drawn by lot
        with Connection(all_of([nobody, brokers.ports[0]]), name="x") as connection:
            assert connection.address.port == brokers.ports[0]


def test_where_none_answers_all_are_named():
    ports = [free_port(), free_port()]
    with pytest.raises(LinkError) as raised, Connection(all_of(ports), name="x"):
        pass
    assert all(f"127.0.0.1:{port}" in str(raised.value) for port in ports)


@needs_broker
def test_a_fleet_spreads_over_the_brokers(brokers):
    seen = set()
    for _ in range(20):  # that all begin at one of two is as likely as 20 equal throws of a coin
        with Connection(all_of(brokers.ports), name="x") as connection:
            seen.add(connection.address.port)
    assert seen == set(brokers.ports)


@needs_broker
def test_promised_frames_survive_the_loss_of_either_broker(brokers, tmp_path):
    draw_pictures(tmp_path / "pictures")
    there = ("--broker", ",".join(f"127.0.0.1:{port}" for port in brokers.ports))
    receiver = EdgesemProcess(
        "receive", "home/+/+", *there, "--out", tmp_path / "out", "--workers", 1, log=tmp_path / "receive.log"
    )
    common = ("--device", "t", "--fps", 5, "--promise-every", 2, "--loop", "--state-dir", tmp_path / "state")
    sender = EdgesemProcess("send", tmp_path / "pictures", *there, *common, log=tmp_path / "send.log")
    try:
        for port in [*brokers.ports, brokers.ports[0]]:
            after = len(sender.of("kept", lambda event: 1)) + 3
            wait_for(lambda after=after: len(sender.of("kept", lambda event: 1)) >= after, WAIT_S)
            brokers.kill(port)
            after = len(sender.of("kept", lambda event: 1)) + 3
            wait_for(lambda after=after: len(sender.of("kept", lambda event: 1)) >= after, WAIT_S)
            brokers.start(port)
        sender.process.send_signal(signal.SIGTERM)
        assert sender.finish() == 0
        promised = set(sender.of("promised", lambda event: (event["epoch"], event["frame"])))
        kept = set(sender.of("kept", lambda event: (event["epoch"], event["frame"])))
        files = [path.name for path in (tmp_path / "out").rglob("*.es")]
        assert kept <= promised
        assert len(files) == len(set(files)) >= len(kept)  # each is on the receiver's disk, once

        def drawn():
            return receiver.of("picture", lambda event: (event["epoch"], event["frame"], event["promised"]))

        wait_for(lambda: {(*frame, True) for frame in kept} <= set(drawn()), WAIT_S)
        shown = [frame for frame in drawn() if frame[2]]
        assert len(shown) == len(set(shown))
    finally:
        sender.process.kill()
        sender.finish()
        assert receiver.end() == 0


def broker_of(**given):
    return load_config(None, BrokerSettings, given)


def test_brokers_are_named_with_commas_or_as_a_list(tmp_path):
    wanted = [("a", 1883, False), ("b", 1884, False), ("2001:db8::1", 1885, False), ("c", 8883, True)]

    def places(settings):
        return [(one.host, one.port, one.tls) for one in settings.addresses()]

    assert places(broker_of(host="a, b:1884,[2001:db8::1]:1885,mqtts://c")) == wanted
    path = tmp_path / "x.toml"
    path.write_text('user = "u"\nhosts = ["a", "b:1884", "[2001:db8::1]:1885", "mqtts://c"]\n')
    settings = load_config(path, BrokerSettings)
    assert places(settings) == wanted
    assert {one.user for one in settings.addresses()} == {"u"}
    path.write_text('port = 1999\nhosts = ["a", "b:1884"]\ntls = true\n')
    assert places(load_config(path, BrokerSettings)) == [("a", 1999, True), ("b", 1884, True)]
    over = load_config(path, BrokerSettings, {"host": "other", "hosts": ()})  # as a flag has it
    assert places(over) == [("other", 1999, True)]
    assert places(broker_of()) == [("127.0.0.1", 1883, False)]


@pytest.mark.parametrize(
    "given",
    [
        {"host": "a,,b"},
        {"host": "a,a"},
        {"host": "a,b..c"},
        {"host": "a," + "b" * 64},
        {"host": "a", "hosts": ("b", "c")},
        {"hosts": ("a", "b/c")},
        {"host": ",".join(f"a{number}" for number in range(17))},
        {"host": "mqtt://a,b", "tls": True},
    ],
)
def test_brokers_that_cannot_be_are_refused(given):
    with pytest.raises(UsageError):
        broker_of(**given)


def test_one_of_the_brokers_may_have_tls():
    ordered = itertools.chain(one.tls for one in broker_of(host="a,mqtts://b", ca_file="/ca.pem").addresses())
    assert list(ordered) == [False, True]
