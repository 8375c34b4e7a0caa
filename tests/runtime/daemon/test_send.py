"""The daemons `edgesem send` and `edgesem broker` as processes: TLS, seal, signals, a frozen broker, status file."""

import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesem.config import load_config
from edgesem.errors import LinkError
from edgesem.packet.keys import new_key, read_key
from runtime.daemon.send_settings import SendSettings
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.mqtt.mosquitto import find_tool
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import Command
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.settings import PromiseSettings, SourceSettings, StreamSettings
from tests.support import dashboard
from tests.support.edgesem_process import WAIT_S, edgesem_processes, free_port
from tests.support.publishing import wait_for
from tests.support.real_broker import processes_of
from tests.support.viewer import Viewer

TOPICS = Topics("home", "t", "main")
pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(3):
        small = rng.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def start(tmp_path):
    """Starts commands and ends them."""
    with edgesem_processes() as start:
        yield lambda *args, **more: start(*args, log=tmp_path / f"{args[0]}.log", **more)


@pytest.fixture
def broker(start, tmp_path):
    """`edgesem broker` with a password of its own making: its process, and its address."""
    process = start("broker", "--port", free_port(), "--state-dir", tmp_path / "broker")
    about = process.wait_for("listening")
    password = Path(about["password_file"]).read_text().strip()
    address = Address(about["host"], about["port"], user=about["users"][0], password=password)
    return process, address, ("--port", about["port"], "--user", "edgesem", "--password-file", about["password_file"])


def send(start, tmp_path, pictures, *more, **kwargs):
    common = ("--device", "t", "--fps", 20, "--state-dir", tmp_path / "state")
    return start("send", pictures, *common, *more, **kwargs)


def test_a_session_birth_pictures_snapshot_and_a_clean_end(start, broker, tmp_path, pictures):
    _, address, there = broker
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "systemd").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(WAIT_S)
        systemd.bind(str(tmp_path / "systemd"))
        env = {**os.environ, "RUNTIME_DIRECTORY": str(run), "NOTIFY_SOCKET": str(tmp_path / "systemd")}
        metrics = free_port()
        viewer = Viewer(address, TOPICS)
        with viewer.connection:
            more = ("--loop", "--metrics", metrics, "--data-day", 1000)
            sender = send(start, tmp_path, pictures, *more, *there, env=env)
            birth = viewer.birth()
            assert State.from_bytes(viewer.next("state")).up
            packet = viewer.packet()
            assert (packet.epoch, packet.bundle_id, birth.sealed) == (birth.epoch, birth.bundle_id, False)
            viewer.keep(packet)
            sender.wait_for("acked")
            viewer.say(TOPICS.cmd, Command("snapshot", size_bytes=3000).to_bytes())
            while not (packet := viewer.packet()).promised:
                pass
            assert packet.size_bytes <= 3000
            assert len(packet.chunks) == packet.total_layers
            viewer.keep(packet)
            sender.wait_for("kept", lambda event: event["frame"] == packet.frame)
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            figures = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=WAIT_S).read().decode()
            labels = '{device="t",site="home",stream="main"}'
            assert f"edgesem_sender_connected{labels} 1.0" in figures
            assert f"edgesem_sender_spooled_frames{labels} 0.0" in figures
            shown = dashboard.metrics("sender") - {"edgesem_sender_watched"}  # that is of senders on demand
            assert {name for name in shown if f"{name}{labels}" not in figures} == set()
            status = wait_for(lambda: (found := json.loads((run / "send.json").read_text()))["acknowledged"] and found)
            assert status["pid"] == sender.process.pid
            assert sender.end() == 0
            while (state := State.from_bytes(viewer.next("state"))).up:
                pass
            assert state.epoch == birth.epoch


def test_a_camera_that_gives_no_picture_is_told_beside_the_connection(start, broker, tmp_path):
    _, address, there = broker
    with socket.create_server(("127.0.0.1", 0)) as camera:  # it is reached, and says nothing
        uri = f"tcp://127.0.0.1:{camera.getsockname()[1]}"
        viewer = Viewer(address, TOPICS)
        with viewer.connection:
            sender = send(start, tmp_path, uri, *there)
            told = sender.wait_for("state", lambda state: state.get("silent_s"))
            assert told["up"]
            while not (state := State.from_bytes(viewer.next("state"))).silent_s:
                assert state.up
            assert sender.end() == 0
    log = (tmp_path / "send.log").read_text()
    assert len(re.findall(r"no picture from tcp://127\.0\.0\.1:\d+ for \d+ s\n", log)) == 1


def test_a_pipe_that_gives_nothing_more_does_not_spoil_the_end(start, broker, tmp_path):
    """Its thread waits in the pipe when the interpreter ends."""
    _, _, there = broker
    read_end, write_end = os.pipe()
    try:
        sender = start("send", "-", *there, "--device", "t", "--state-dir", tmp_path / "state", stdin=read_end)
        sender.wait_for("connected")
        assert sender.end() == 0
    finally:
        os.close(read_end)
        os.close(write_end)


def test_one_wake_without_a_picture_says_so(start, broker, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as camera:
        uri = f"tcp://127.0.0.1:{camera.getsockname()[1]}"
        sender = send(start, tmp_path, uri, *broker[2], "--once", "--deadline", 20)
        assert "no picture from tcp://" in sender.wait_for("once")["trouble"]
        assert sender.finish() == 4


def test_a_killed_sender_is_told_of_by_its_last_will(start, broker, tmp_path, pictures):
    _, address, there = broker
    viewer = Viewer(address, TOPICS)
    with viewer.connection:
        sender = send(start, tmp_path, pictures, "--loop", *there)
        epoch = viewer.birth().epoch
        sender.end(signal.SIGKILL)
        while (state := State.from_bytes(viewer.next("state"))).up:
            pass
        assert state.epoch == epoch


def test_a_sealed_stream_obeys_and_believes_who_has_the_key_alone(start, broker, tmp_path, pictures):
    _, address, there = broker
    new_key(tmp_path / "seal.key")
    viewer = Viewer(address, TOPICS, read_key(tmp_path / "seal.key"))
    with viewer.connection:
        more = ("--loop", "--promise-every", 2, "--seal-key-file", tmp_path / "seal.key")
        sender = send(start, tmp_path, pictures, *more, *there)
        assert viewer.birth().sealed
        while not (packet := viewer.packet()).promised:
            pass
        ack = Ack(packet.epoch, packet.frame, 0, clock_ms(), 0, 1)
        viewer.connection.publish(TOPICS.ack, ack.to_bytes())  # forged: not signed
        viewer.connection.publish(TOPICS.cmd, Command("pause").to_bytes())
        viewer.keep(packet)
        sender.wait_for("kept", lambda event: event["frame"] == packet.frame)
        assert not any(event["event"] == "asked" for event in sender.events)
        secret = (tmp_path / "seal.key").read_bytes().strip()
        assert secret not in (tmp_path / "send.log").read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert address.password.encode() not in path.read_bytes()
            except OSError:
                continue  # it has ended meanwhile


def test_a_finite_source_ends_when_all_is_kept_and_without_a_receiver_it_stays_on_disk(
    start, broker, tmp_path, pictures
):
    _, address, there = broker
    sender = send(start, tmp_path, pictures, "--promise-every", 1, *there)
    for number in range(3):
        sender.wait_for("promised", lambda event, number=number: event["frame"] == number)
    sender.wait_for("sent")
    assert sender.end() == 0  # nobody has kept anything
    viewer = Viewer(address, TOPICS)
    with viewer.connection:
        again = send(start, tmp_path, pictures, "--promise-every", 1, *there)
        kept = set()
        while len(kept) < 6:
            packet = viewer.packet()
            viewer.keep(packet)
            kept.add((packet.epoch, packet.frame))
        assert again.finish() == 0
    assert len({epoch for epoch, _ in kept}) == 2


def test_a_frozen_broker_is_left_and_taken_up_again(start, tmp_path, pictures):
    folder = tmp_path / "broker"
    broker = start("broker", "--port", free_port(), "--state-dir", folder)
    about = broker.wait_for("listening")
    there = ("--port", about["port"], "--user", "edgesem", "--password-file", about["password_file"])
    (tmp_path / "send.toml").write_text("[broker]\nack_timeout_s = 1\n")
    sender = send(start, tmp_path, pictures, "--loop", "--config", tmp_path / "send.toml", *there)
    sender.wait_for("sent")
    (server,) = processes_of(folder / "broker" / "mosquitto.conf")
    began = len(sender.events)
    os.kill(server, signal.SIGSTOP)
    sender.wait_for("disconnected", after=began)
    began = len(sender.events)
    os.kill(server, signal.SIGCONT)
    sender.wait_for("connected", after=began)
    packed = sender.wait_for("packed", after=len(sender.events))
    sender.wait_for("sent", lambda event: event["frame"] >= packed["frame"])
    # and a killed one is started again by its service
    os.kill(server, signal.SIGKILL)
    assert broker.wait_for("listening", lambda event: event["starts"] == 2)
    sender.wait_for("sent", after=len(sender.events))


def certificates(folder):
    """A CA, a certificate for 127.0.0.1 and one for the client `camera`."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")

    def run(*args):
        subprocess.run([tool, *map(str, args)], check=True, capture_output=True, cwd=folder, timeout=WAIT_S)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new, "-x509", "-days", 2, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "camera"):
        run(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = (
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            2,
        )
        run(*sign, "-out", f"{name}.pem", "-extfile", "san")


def test_tls_with_client_certificates(start, tmp_path, pictures):
    certificates(tmp_path)
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "camera.pem", tmp_path / "camera.key"
    server = ("--cert-file", tmp_path / "server.pem", "--key-file", tmp_path / "server.key", "--client-ca-file", ca)
    broker = start("broker", "--port", free_port(), "--state-dir", tmp_path / "broker", *server)
    port = broker.wait_for("listening")["port"]
    address = Address("127.0.0.1", port, tls=True, ca_file=ca, cert_file=cert, key_file=key)
    viewer = Viewer(address, TOPICS)
    with viewer.connection:
        files = ("--tls", "--ca-file", ca, "--cert-file", cert, "--key-file", key)
        send(start, tmp_path, pictures, "--loop", "--port", port, *files)
        viewer.birth()
        viewer.packet()
    strangers = (
        Address("127.0.0.1", port),
        Address("127.0.0.1", port, tls=True, ca_file=ca),
        Address("127.0.0.1", port, tls=True, cert_file=cert, key_file=key),  # does not trust the CA
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of sockets whose handshake failed, by paho
        for stranger in strangers:
            with pytest.raises(LinkError, match="no MQTT connection"), Connection(stranger, name="x"):
                pytest.fail("got in")
        gc.collect()


def test_the_guides_configuration_is_what_can_be_configured(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "send.md").read_text("utf-8")
    example = guide.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "send.toml").write_text(example, "utf-8")
    settings = load_config(tmp_path / "send.toml", SendSettings)
    for section, kind in (("stream", StreamSettings), ("promise", PromiseSettings), ("source", SourceSettings)):
        assert all(f"\n{one.name} = " in example for one in fields(kind) if one.default is not None), section
    assert settings.promise == PromiseSettings()
    assert settings.source == SourceSettings()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["/no/such/folder"], 1),
        (["/dev/video77"], 3),
        (["csi:x"], 2),
        (["--fps", "1000"], 2),
        (["--cert-file", "x"], 2),
        (["--site", "a/b"], 2),
    ],
)
def test_what_must_be_repaired_first_ends_it_with_its_exit_code(start, tmp_path, args, code):
    process = start("send", *args, "--state-dir", tmp_path / "state", "--port", free_port())
    assert process.finish() == code
