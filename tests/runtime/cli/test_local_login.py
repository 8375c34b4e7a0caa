"""`edgesem broker`, and commands that find its login by themselves: as README prints them, and whom they trust."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.mqtt.address import Address
from runtime.mqtt.credentials import published_login, with_local_login
from tests.support.edgesem_process import edgesem_processes, free_port
from tests.support.real_broker import draw_pictures, needs_mosquitto

ROOT = Path(__file__).parents[3]
PORT = 1883


@pytest.fixture
def env(tmp_path):
    """Environment of a user with an empty home folder, and no secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGESEM_", "XDG_"))}
    return {**kept, "XDG_STATE_HOME": str(tmp_path / "xdg"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(tmp_path, env):
    """Starts `edgesem ARGS` in that environment, and ends it."""
    with edgesem_processes() as start:
        yield lambda *args: start(*args, log=tmp_path / f"{args[0]}.log", env=env)


def printed(command):
    """The arguments of the README's `edgesem COMMAND`, as a shell has them."""
    line = next(
        line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith(f"edgesem {command}")
    )
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True).stdout
    return words.split("\n")[1:-1]


@needs_mosquitto
def test_readme_commands_as_printed_against_edgesem_broker(start, tmp_path):
    """With a folder in place of the camera."""
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip("something listens on 1883, the port that README uses")
    start("broker").wait_for("listening")
    draw_pictures(tmp_path / "pictures")
    source, *rest = printed("send")[1:]
    assert source == "/dev/video0"
    words = printed("receive")
    watching = start(*[word if word != "received" else tmp_path / "out" for word in words[words.index("receive") :]])
    watching.wait_for("ready")
    sending = start("send", tmp_path / "pictures", *rest, "--state-dir", tmp_path / "state")
    assert watching.wait_for("picture")["stream"] == "home/gate/main"
    assert sending.finish() == 0


@needs_mosquitto
@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_a_sender_without_a_login_ends_with_the_reason(start, tmp_path, kind):
    port = free_port()
    users = tmp_path / "users"
    users.write_text("u:p\n")
    users.chmod(0o600)
    start("broker", "--port", port, "--kind", kind, "--state-dir", tmp_path / "b", "--users-file", users).wait_for(
        "listening"
    )
    draw_pictures(tmp_path / "pictures", 1)
    for login in (tmp_path / "xdg" / "edgesem" / "brokers").iterdir():
        login.unlink()
    sender = start("send", tmp_path / "pictures", "--port", port, "--state-dir", tmp_path / "s")
    assert sender.finish() == 1
    assert "--user and --password-file" in sender.events[-1]["error"]["message"]
    assert "uthori" in sender.events[-1]["error"]["message"]


def test_only_the_owners_own_socket_gets_the_password(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with published_login(port, "edgesem", "secret") as path:
            assert path.stat().st_mode & 0o777 == 0o600
            for host in ("127.0.0.1", "localhost", "::1"):
                assert with_local_login(Address(host, port)).password == "secret"
            assert with_local_login(Address("broker.example", port)).password is None
            assert with_local_login(Address("127.0.0.1", port, user="me")).password is None
            path.chmod(0o644)
            assert with_local_login(Address("127.0.0.1", port)).password is None
            path.chmod(0o600)
            server.close()
            assert with_local_login(Address("127.0.0.1", port)).password is None  # nobody listens: anybody may, soon
        assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_socket_of_another_user_does_not_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        port = int(stranger.stdout.readline())
        with published_login(port, "edgesem", "secret"):
            assert with_local_login(Address("127.0.0.1", port)).password is None
        stranger.stdin.close()
