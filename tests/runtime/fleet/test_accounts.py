"""Accounts of an inventory: mosquitto lets each in with its password, to its own topics; RabbitMQ's rules fit them."""

import contextlib
import json
import os
import re
import subprocess

import pytest

from edgesem.cli.main import main
from edgesem.errors import InputError, LinkError, UsageError
from edgesem.packet.keys import write_private
from runtime.daemon.accounts import topic_rules
from runtime.fleet.accounts import write_accounts
from runtime.fleet.inventory import Inventory
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.mqtt.settings import BrokerSettings
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import EdgesemProcess, free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import draw_pictures, wait_for_port

needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
INVENTORY = '[devices."home/a"]\n[devices."büro/b.1"]\n[receivers.hall]\nstreams = ["home/+/+"]\n'


@pytest.fixture
def fleet(tmp_path):
    (tmp_path / "fleet.toml").write_text(INVENTORY)
    return Inventory.read(tmp_path / "fleet.toml")


def password(tmp_path, name):
    return (tmp_path / "out/passwords" / f"{name}.password").read_text().strip()


@contextlib.contextmanager
def mosquitto(out, folder):
    """Port of a mosquitto that has the files in `out`."""
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false", "user root"]
    lines += [f"password_file {out}/mosquitto.passwords", f"acl_file {out}/mosquitto.acl"]
    (folder / "conf").write_text("\n".join(lines) + "\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([find_tool("mosquitto"), "-c", str(folder / "conf")], **quiet)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


@needs_mosquitto
def test_mosquitto_takes_them(fleet, tmp_path):
    write_accounts(fleet, tmp_path / "out")
    with mosquitto(tmp_path / "out", tmp_path) as port:
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


@needs_mosquitto
def test_a_sender_says_in_its_status_which_login_it_uses(fleet, tmp_path):
    out, run = tmp_path / "out", tmp_path / "run"
    write_accounts(fleet, out)
    write_accounts(fleet, out, ["home-a"])
    write_private(tmp_path / "login", json.loads((out / "logins.json").read_text())["home/a"] + "\n")
    draw_pictures(tmp_path / "pictures", count=2)
    run.mkdir()
    with mosquitto(out, tmp_path) as port:
        (tmp_path / "send.toml").write_text(
            f'[broker]\nport = {port}\nlogin_file = "{tmp_path}/login"\n[stream]\ndevice = "a"\nfps = 4\n'
        )
        words = ("send", tmp_path / "pictures", "--loop", "--config", tmp_path / "send.toml")
        env = {**os.environ, "RUNTIME_DIRECTORY": str(run)}
        sender = EdgesemProcess(*words, "--state-dir", tmp_path / "state", log=tmp_path / "log", env=env)
        try:
            sender.wait_for("sent")
            wait_for(lambda: (run / "send.json").exists())
            assert json.loads((run / "send.json").read_text())["user"] == "home-a@2"
        finally:
            assert sender.end() == 0


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


def test_passwords_stay_and_a_rotated_account_has_two_until_the_later_one_is_proven(fleet, tmp_path):
    out = tmp_path / "out"
    first = write_accounts(fleet, out)
    assert sorted(first["new"]) == ["büro-b.1", "hall", "home-a"]
    before = password(tmp_path, "home-a")
    assert write_accounts(fleet, out)["new"] == []

    assert write_accounts(fleet, out, ["home-a"])["new"] == ["home-a@2"]
    assert password(tmp_path, "home-a") == before != password(tmp_path, "home-a%402")
    assert json.loads((out / "logins.json").read_text())["home/a"] == f"home-a@2:{password(tmp_path, 'home-a%402')}"
    lines = (out / "mosquitto.acl").read_text().split("user ")
    rules = {line.partition("\n")[0]: line.partition("\n")[2] for line in lines}
    assert rules["home-a"] == rules["home-a@2"] != ""
    users = {one["name"] for one in json.loads((out / "rabbitmq.json").read_text())["users"]}
    assert users == {"home-a", "home-a@2", "büro-b.1", "hall"}
    again = write_accounts(fleet, out, ["all"])
    assert (again["waiting"], again["new"]) == (["home-a"], ["büro-b.1@2", "hall@2"])

    (out / "proven.json").write_text('["home-a@2"]')
    assert write_accounts(fleet, out)["removed"] == ["home-a"]
    assert "home/a" not in json.loads((out / "logins.json").read_text())
    assert "user home-a\n" not in (out / "mosquitto.acl").read_text()
    assert write_accounts(fleet, out, ["home-a"], ["hall"])["removed"] == ["hall"]
    assert "user home-a@3\n" in (out / "mosquitto.acl").read_text()


@pytest.mark.parametrize("name", ["d" * 59, "\u4e0a" * 30])
def test_an_account_whose_second_login_would_have_no_name_is_not_rotated(tmp_path, name):
    (tmp_path / "fleet.toml").write_text(f'[devices."home/a"]\n[devices."home/{name}"]\n')
    fleet, out = Inventory.read(tmp_path / "fleet.toml"), tmp_path / "out"
    for rotate in ([f"home-{name}"], ["all"]):
        with pytest.raises(UsageError, match="too long for a second login"):
            write_accounts(fleet, out, rotate)
    assert sorted(write_accounts(fleet, out)["new"]) == ["home-a", f"home-{name}"]
    assert write_accounts(fleet, out, ["home-a"])["new"] == ["home-a@2"]


def test_what_is_no_account_is_refused_and_what_is_gone_is_said(fleet, tmp_path, capsys):
    out = tmp_path / "out"
    write_accounts(fleet, out)
    for wrong in (["nobody"], []), ([], ["nobody"]):
        with pytest.raises(UsageError, match="no such account"):
            write_accounts(fleet, out, *wrong)
    (out / "proven.json").write_text("{")
    with pytest.raises(InputError, match=r"proven\.json"):
        write_accounts(fleet, out)
    (out / "proven.json").unlink()
    (tmp_path / "fleet.toml").write_text("[receivers.hall]\n")
    args = ["fleet", "accounts", str(tmp_path / "fleet.toml"), "--out", str(out), "--json"]
    assert main(args) == 0
    assert json.loads(capsys.readouterr().out)["gone"] == ["büro-b.1", "home-a"]
    for path in out.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0
    (tmp_path / "fleet.toml").write_text('[devices."home/a@2"]\n')
    with pytest.raises(UsageError, match="second login"):
        write_accounts(Inventory.read(tmp_path / "fleet.toml"), out)


def test_a_client_reads_user_and_password_from_one_file(tmp_path):
    file = tmp_path / "login"
    write_private(file, "home-a@2:se:cret\n")
    address = BrokerSettings(login_file=file).address()
    assert (address.user, address.password) == ("home-a@2", "se:cret")
    with pytest.raises(UsageError, match="leave"):
        BrokerSettings(login_file=file, user="x")
    file.unlink()
    write_private(file, "only-a-name\n")
    with pytest.raises(UsageError, match="USER:PASSWORD"):
        BrokerSettings(login_file=file).address()
