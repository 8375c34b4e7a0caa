"""`edgesem broker` as a process: accounts and what each may do, damaged files, a kill, and who else may be there."""

import contextlib
import json
import os
import queue
import shutil
import signal
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgesem.cli import main as cli
from edgesem.errors import EdgesemError
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import WAIT_S, EdgesemProcess, edgesem_processes, free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import draw_pictures, processes_of, wait_for_port

needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")
GATE, YARD = Topics("home", "gate", "main"), Topics("home", "yard", "main")


@pytest.fixture
def start(tmp_path):
    """Starts `edgesem broker` with the state folder `tmp_path / "s"`, and ends it."""
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "xdg")}
    with edgesem_processes() as start:

        def start_broker(*args, state="s"):
            return start("broker", *args, "--state-dir", tmp_path / state, log=tmp_path / "broker.log", env=env)

        yield start_broker


def login(about, user="edgesem", password_file=None):
    """The address of a broker as a user of it."""
    password = Path(password_file or about["password_file"]).read_text().strip()
    return Address("127.0.0.1", about["port"], user=user, password=password)


def account(capsys, state, *args):
    """What `edgesem account ...` says."""
    code = cli.main(["account", *map(str, args), "--state-dir", str(state), "--json"])
    assert code == 0, capsys.readouterr()
    return json.loads(capsys.readouterr().out)


def may(publisher, listener, topic):
    """Whether what one connection publishes on `topic` comes to the other, which hears a marker after it."""
    heard, settled = queue.Queue(), queue.Queue()
    marker = {"gate": GATE.ack, "view": GATE.state}.get(listener.user, "marker")  # what the listener may hear
    with (
        Connection(listener, name="l", subscribe=[topic, marker], on_message=lambda *m: heard.put(m)),
        Connection(publisher, name="p") as sender,
        Connection(replace(listener, user="edgesem", password=_admin[0]), name="m") as admin,
    ):
        sender.publish(topic, b"x", confirm=lambda: settled.put(1), refuse=settled.put)
        settled.get(timeout=WAIT_S)
        admin.publish(marker, b"end")
        found = []
        while b"end" not in found:
            found.append(heard.get(timeout=WAIT_S)[1])
    return b"x" in found


_admin = [""]


@needs_mosquitto
def test_an_account_may_use_its_own_topics_only(start, tmp_path, capsys):
    broker = start("--port", free_port())
    about = broker.wait_for("listening")
    admin = login(about)
    _admin[0] = admin.password
    state = tmp_path / "s"
    gate = login(about, "gate", account(capsys, state, "add", "gate")["password_file"])
    view = login(about, "view", account(capsys, state, "add", "view", "--role", "receiver")["password_file"])
    assert [one["name"] for one in account(capsys, state, "list")["accounts"]] == ["gate", "view"]
    _wait_until_in(gate), _wait_until_in(view)
    assert may(gate, admin, GATE.layer(0))
    assert may(gate, view, GATE.birth)
    assert not may(gate, admin, YARD.layer(0))
    assert not may(gate, admin, GATE.cmd)
    assert not may(gate, admin, "homeassistant/camera/x/config")
    assert may(view, gate, GATE.cmd)
    assert may(view, gate, GATE.ack)
    assert not may(view, admin, GATE.layer(0))
    assert not may(admin, gate, YARD.cmd)
    assert not may(admin, gate, YARD.layer(0))
    # and a removed one is out
    account(capsys, state, "remove", "gate")
    deadline_s = time.monotonic() + WAIT_S
    while _gets_in(gate):
        assert time.monotonic() < deadline_s, "a removed account gets in"


@needs_mosquitto
def test_a_message_larger_than_the_broker_s_limit_reaches_nobody(start):
    broker = start("--port", free_port())
    address = login(broker.wait_for("listening"))
    heard, lost = queue.Queue(), queue.Queue()
    with (
        Connection(address, name="l", subscribe="x/#", on_message=lambda *m: heard.put(m)),
        Connection(address, name="p", on_down=lambda *_: lost.put(1)) as sender,
    ):
        sender.publish("x/small", bytes(500_000))
        assert len(heard.get(timeout=WAIT_S)[1]) == 500_000
        with contextlib.suppress(EdgesemError):  # a broker that has told its limit is not even tried
            sender.publish("x/large", bytes(600_000))
            lost.get(timeout=WAIT_S)
    with Connection(address, name="l2", subscribe="x/#", on_message=lambda *m: heard.put(m)) as last:
        last.publish("x/end", b"")
        assert heard.get(timeout=WAIT_S)[0] == "x/end"


def _wait_until_in(address):
    """A running broker takes an account up within a second."""
    deadline_s = time.monotonic() + WAIT_S
    while not _gets_in(address):
        assert time.monotonic() < deadline_s, f"{address.user} is not admitted"


def _gets_in(address):
    try:
        with Connection(address, name="x"):
            return True
    except ConnectionError:
        return False


@needs_mosquitto
def test_real_daemons_work_with_accounts(start, tmp_path, capsys):
    state = tmp_path / "s"
    files = {
        role: account(capsys, state, "add", name, "--role", role)["password_file"]
        for name, role in (("gate", "device"), ("view", "receiver"))
    }
    port = start("--port", free_port()).wait_for("listening")["port"]
    with contextlib.ExitStack() as stack:

        def run(command, *args, user, role):
            where = ("--port", port, "--user", user, "--password-file", files[role])
            process = EdgesemProcess(command, *args, *where, log=tmp_path / f"{command}.log")
            stack.callback(process.finish)
            stack.callback(process.process.terminate)
            return process

        receiver = run("receive", "--out", tmp_path / "out", "--home-assistant", user="view", role="receiver")
        receiver.wait_for("ready")
        common = ("--device", "gate", "--fps", 5, "--loop", "--state-dir", tmp_path / "send", "--promise-every", 3)
        sender = run("send", draw_pictures(tmp_path / "pictures"), *common, user="gate", role="device")
        receiver.wait_for("picture")
        sender.wait_for("kept")


@needs_mosquitto
def test_accounts_that_cannot_be_are_refused(tmp_path, capsys):
    def code(*args):
        return cli.main(["account", *args, "--state-dir", str(tmp_path)])

    assert code("add", "a:b") == 2
    assert code("add", "edgesem") == 2
    assert code("add", "gate", "--role", "boss") == 2
    assert code("add", "gate", "--stream", "home/#") == 2
    assert code("add", "gate") == 0
    assert code("add", "gate") == 2
    assert code("remove", "yard") == 2
    password = tmp_path / "broker" / "accounts" / "gate.password"
    assert password.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "broker" / "accounts.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "broker" / "accounts.json").write_text("{")
    assert code("list") == 1
    capsys.readouterr()


def test_amqtt_does_not_admit_accounts_as_if_they_were_bound_to_topics(start, tmp_path, capsys):
    account(capsys, tmp_path / "s", "add", "gate")
    broker = start("--port", free_port(), "--kind", "amqtt")
    assert broker.finish() == 3
    assert "install mosquitto" in broker.events[-1]["error"]["message"]


@needs_mosquitto
def test_an_empty_password_file_of_a_power_cut_is_made_anew(start, tmp_path):
    home = tmp_path / "s" / "broker"
    home.mkdir(parents=True, mode=0o700)
    (home / "password").touch(mode=0o600)
    about = start("--port", free_port()).wait_for("listening")
    with (
        pytest.raises(ConnectionError),
        Connection(Address("127.0.0.1", about["port"], user="edgesem", password=""), name="x"),
    ):
        pytest.fail("in without a password")
    with Connection(login(about), name="x"):
        pass


@pytest.mark.parametrize("kind", [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"])
def test_a_killed_broker_leaves_nothing_in_the_way(start, kind):
    port = free_port()
    first = start("--port", port, "--kind", kind)
    first.wait_for("listening")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert start("--port", port, "--kind", kind).wait_for("listening")["starts"] == 1


@needs_mosquitto
def test_an_account_that_is_added_while_the_broker_is_down_is_taken_up(start, tmp_path, capsys):
    broker = start("--port", free_port())
    about = broker.wait_for("listening")
    (server,) = processes_of(tmp_path / "s" / "broker" / "mosquitto.conf")
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: "has ended by itself" in (tmp_path / "broker.log").read_text())
    gate = login(about, "gate", account(capsys, tmp_path / "s", "add", "gate")["password_file"])
    broker.wait_for("listening", lambda event: event["starts"] == 2)
    _wait_until_in(gate)


@needs_mosquitto
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_renewed_certificate_is_taken_up_once_its_key_fits(start, tmp_path):
    """Certificates of today hold for weeks, and brokers run for longer."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def issue(name, between=lambda: None):
        made = [file.with_suffix(".new") for file in files]
        subprocess.run(
            [*words, "-subj", f"/CN={name}", "-out", made[0], "-keyout", made[1]], check=True, capture_output=True
        )
        for new, file in zip(made, files, strict=True):
            new.replace(file)
            between()
        return ssl.PEM_cert_to_DER_cert(files[0].read_text())

    def shown():
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", about["port"]), timeout=WAIT_S))

    first = issue("first")
    broker = start("--port", free_port(), "--cert-file", files[0], "--key-file", files[1])
    about = broker.wait_for("listening")
    assert shown() == first
    second = issue("second")
    wait_for(lambda: shown() == second)

    def half():
        """The certificate alone was replaced, and the broker has seen it; or the key was too."""
        if "keeps those before" not in log.read_text():
            wait_for(lambda: "keeps those before" in log.read_text())
            assert shown() == second

    log = tmp_path / "broker.log"
    third = issue("third", half)
    wait_for(lambda: shown() == third)


@needs_mosquitto
def test_an_orphan_of_an_earlier_version_is_ended_too(start, tmp_path):
    """One that was not told to end with its parent."""
    port = free_port()
    first = start("--port", port)
    first.wait_for("listening")
    first.end()
    home = tmp_path / "s" / "broker"
    orphan = subprocess.Popen([find_tool("mosquitto"), "-c", str(home / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    wait_for_port(port, orphan)
    start("--port", port).wait_for("listening")
    assert orphan.wait(WAIT_S) == 0


@needs_mosquitto
def test_two_brokers_do_not_share_a_folder_nor_end_each_other(start):
    first = start("--port", free_port())
    about = first.wait_for("listening")
    second = start("--port", free_port())
    assert second.finish() == 3
    assert "runs with the files" in second.events[-1]["error"]["message"]
    with Connection(login(about), name="x"):
        pass


@needs_mosquitto
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_password_files_as_windows_writes_them(start, tmp_path, encoding):
    users, password = tmp_path / "users", tmp_path / "password"
    users.write_text("käthe:geheim\n", encoding)
    password.write_text("geheim\n", encoding)
    for path in (users, password):
        path.chmod(0o600)
    about = start("--port", free_port(), "--users-file", users).wait_for("listening")
    assert about["users"] == ["käthe"]
    there = ("--port", about["port"], "--user", "käthe", "--password-file", password)
    sender = EdgesemProcess(
        *("send", draw_pictures(tmp_path / "pictures", 1), *there, "--state-dir", tmp_path / "send"),
        log=tmp_path / "send.log",
    )
    sender.wait_for("connected")
    assert sender.end() == 0


@needs_mosquitto
def test_hosts_as_people_write_them(start, tmp_path):
    about = start("--port", free_port()).wait_for("listening")
    port, password = about["port"], about["password_file"]
    draw_pictures(tmp_path / "pictures", 1)
    for host in (f"127.0.0.1:{port}", f"mqtt://127.0.0.1:{port}", f"mqtt://localhost:{port}/"):
        login_flags = ("--host", host, "--user", "edgesem", "--password-file", password)
        sender = EdgesemProcess(
            "send", tmp_path / "pictures", *login_flags, "--state-dir", tmp_path / "send", log=tmp_path / "send.log"
        )
        sender.wait_for("connected")
        assert sender.end() == 0
