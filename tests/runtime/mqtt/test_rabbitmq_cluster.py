"""A cluster of three real RabbitMQ nodes: accounts of an inventory, shards, and each node killed in turn."""

import json
import os
import time
from pathlib import Path

import pytest

from runtime.bench.fleet.rabbit_cluster import RABBITMQ, RabbitCluster
from runtime.fleet.accounts import write_accounts
from runtime.fleet.inventory import Inventory
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.shard import shard_of
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import EdgesemProcess
from tests.support.publishing import wait_for
from tests.support.real_broker import draw_pictures

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not RABBITMQ.exists() or find_tool("epmd") is None, reason="RabbitMQ is not installed"),
]
INVENTORY = """
[devices."home/a"]
[devices."home/b"]
[receivers.hall]
streams = ["home/+/+"]
"""
WAIT_S, START_S = 120, 240


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "fleet.toml").write_text(INVENTORY)
    write_accounts(Inventory.read(folder / "fleet.toml"), folder / "accounts")
    draw_pictures(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def cluster(place):
    running = RabbitCluster(place / "rabbit", f"load_definitions = {place}/accounts/rabbitmq.json")
    try:
        assert running.running() == 3
        yield running
    finally:
        running.end()


def login(place, cluster, name):
    there = ",".join(f"127.0.0.1:{port}" for _, port in cluster.endpoints)
    return ("--broker", there, "--user", name, "--password-file", place / "accounts/passwords" / f"{name}.password")


def address(place, endpoint, name):
    password = (place / "accounts/passwords" / f"{name}.password").read_text().strip()
    return Address(*endpoint, user=name, password=password)


def test_an_account_may_use_its_own_topics_only(place, cluster):
    heard = []
    own, foreign = Topics("home", "a", "main"), Topics("home", "b", "main")
    state = State(up=True, epoch=1, time_ms=0).to_bytes()
    receiver = Connection(
        address(place, cluster.endpoints[0], "hall"),
        name="hall",
        subscribe="edgesem/v1/home/+/+/state",
        on_message=lambda topic, _: heard.append(topic),
    )
    with receiver, Connection(address(place, cluster.endpoints[1], "home-a"), name="a", retry=True) as device:
        wait_for(lambda: device.connected)
        device.publish(foreign.state, state)  # the broker ends the connection
        wait_for(lambda: device.reconnects == 1)
        device.publish(own.state, state)
        wait_for(lambda: heard)
        assert heard == [own.state]


def check_frames(device, sender, owner, other):
    """All frames that were kept are shown once, by the receiver whose stream it is."""

    def promised_of(receiver):
        mine = receiver.of("picture", lambda event: event if event["stream"].split("/")[1] == device else None)
        return [(event["epoch"], event["frame"]) for event in mine if event is not None and event["promised"]]

    promised = set(sender.of("promised", lambda event: (event["epoch"], event["frame"])))
    kept = set(sender.of("kept", lambda event: (event["epoch"], event["frame"])))
    assert kept <= promised
    wait_for(lambda: kept <= set(promised_of(owner)), WAIT_S)
    shown = promised_of(owner)
    assert len(shown) == len(set(shown))
    assert promised_of(other) == []


def test_shards_and_promised_frames_survive_each_node(place, cluster, tmp_path):
    """Prints for how many seconds no promised frame was kept, at each kill; EDGESEM_KILLS (3) says how many kills."""
    receivers = [
        EdgesemProcess(
            *("receive", "home/+/+", "--shard", f"{index}/2", *login(place, cluster, "hall"), "--workers", 1),
            *("--out", tmp_path / f"out{index}", "--state-dir", tmp_path / f"state{index}"),
            log=tmp_path / f"receive{index}.log",
        )
        for index in range(2)
    ]
    senders = {
        device: EdgesemProcess(
            *("send", place / "pictures", "--device", device, "--fps", 4, "--promise-every", 2, "--loop"),
            *(*login(place, cluster, f"home-{device}"), "--state-dir", tmp_path / device),
            log=tmp_path / f"{device}.log",
        )
        for device in ("a", "b")
    }

    def kept():
        return {device: len(sender.of("kept", lambda event: 1)) for device, sender in senders.items()}

    def wait_for_more(count=3):
        before = kept()
        wait_for(lambda: all(now >= before[device] + count for device, now in kept().items()), WAIT_S)

    dark = []
    try:
        wait_for_more()
        for kill in range(int(os.environ.get("EDGESEM_KILLS", "3"))):
            number = kill % 3
            cluster.kill(number)
            killed_s = time.monotonic()
            wait_for_more(1)
            dark.append(round(time.monotonic() - killed_s, 1))
            wait_for_more()
            cluster.start(number)
            wait_for(lambda: cluster.running() == 3, START_S)
        for device, sender in senders.items():
            owner = shard_of(Topics("home", device, "main"), 2)
            check_frames(device, sender, receivers[owner], receivers[1 - owner])
        print(json.dumps({"dark_s": dark, "kept": kept()}))
    finally:
        for process in (*senders.values(), *receivers):
            process.end()


def test_the_definitions_are_closed_to_others(place):
    for path in Path(place / "accounts").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0
