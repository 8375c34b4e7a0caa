"""Accounts of an inventory: mosquitto lets each in with its password, to its own topics; RabbitMQ's rules fit them."""

import json
import re
import subprocess

import pytest

from edgesem.cli.main import main
from edgesem.errors import LinkError, UsageError
from runtime.daemon.accounts import topic_rules
from runtime.fleet.accounts import write_accounts
from runtime.fleet.inventory import Inventory
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import wait_for_port

INVENTORY = '[devices."home/a"]\n[devices."büro/b.1"]\n[receivers.hall]\nstreams = ["home/+/+"]\n'


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "fleet.toml").write_text(INVENTORY)
    return Inventory.read(tmp_path / "fleet.toml")


def password(tmp_path, name):
    return (tmp_path / "out/passwords" / f"{name}.password").read_text().strip()


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
def test_mosquitto_takes_them(fleet, tmp_path):
    write_accounts(fleet, tmp_path / "out")
    port, out = free_port(), tmp_path / "out"
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", "user root"]
    lines += [f"password_file {out}/mosquitto.passwords", f"acl_file {out}/mosquitto.acl"]
    (tmp_path / "conf").write_text("\n".join(lines) + "\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([find_tool("mosquitto"), "-c", str(tmp_path / "conf")], **quiet)
    try:
        wait_for_port(port, process)
        device = Address("127.0.0.1", port, user="home-a", password=password(tmp_path, "home-a"))
        hall = Address("127.0.0.1", port, user="hall", password=password(tmp_path, "hall"))
        heard = []
        with (
            Connection(
                hall, name="hall", subscribe="edgesem/v1/#", on_message=lambda topic, _: heard.append(topic)
            ) as hears,
            Connection(device, name="a") as camera,
        ):
            camera.publish(Topics("home", "b", "main").state, b"x")
            camera.publish(Topics("home", "a", "main").state, b"x")
            wait_for(lambda: heard)
            assert heard == [Topics("home", "a", "main").state]
            hears.publish(Topics("home", "a", "main").ack, b"x")  # as another receiver does: `fleet plan` listens
            wait_for(lambda: heard[1:] == [Topics("home", "a", "main").ack])
        with pytest.raises(LinkError), Connection(Address("127.0.0.1", port, user="hall", password="no"), name="x"):
            pass
    finally:
        process.kill()
        process.wait()


def test_rabbitmq_has_rules_for_the_same_topics(fleet, tmp_path):
    write_accounts(fleet, tmp_path / "out")
    definitions = json.loads((tmp_path / "out" / "rabbitmq.json").read_text())
    rules = {one["user"]: one for one in definitions["topic_permissions"]}
    assert set(rules) == {one["name"] for one in definitions["users"]} == {"home-a", "büro-b.1", "hall"}
    for account in fleet.accounts:
        for access, topic in topic_rules(account):
            for kind in ("read", "write"):
                key = topic.replace("/", ".").replace("+", "*").replace("#", "x")
                assert bool(re.search(rules[account.name][kind], key)) == (access in (kind, "readwrite")), (
                    access,
                    topic,
                )
    assert not re.search(rules["home-a"]["write"], "edgesem.v1.home.b.main.state")
    assert not re.search(rules["home-a"]["write"], "edgesem.v1.home.a.main.cmd")
    assert not re.search(rules["hall"]["read"], "edgesem.v1.other.a.main.state")


def test_passwords_stay_until_they_are_rotated(fleet, tmp_path, capsys):
    first = write_accounts(fleet, tmp_path / "out")
    assert sorted(first["new"]) == ["büro-b.1", "hall", "home-a"]
    before = {name: password(tmp_path, name) for name in ("hall", "home-a")}
    assert write_accounts(fleet, tmp_path / "out")["new"] == []
    assert write_accounts(fleet, tmp_path / "out", ["hall"])["new"] == ["hall"]
    assert password(tmp_path, "home-a") == before["home-a"]
    assert password(tmp_path, "hall") != before["hall"]
    with pytest.raises(UsageError, match="no such account"):
        write_accounts(fleet, tmp_path / "out", ["nobody"])
    (tmp_path / "fleet.toml").write_text("[receivers.hall]\n")
    args = ["fleet", "accounts", str(tmp_path / "fleet.toml"), "--out", str(tmp_path / "out"), "--json"]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["gone"] == ["büro-b.1", "home-a"]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0
