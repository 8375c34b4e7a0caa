"""Both daemons as their units run them: with the units' own system calls, write paths and privileges."""

import base64
import ctypes.util
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from devices.units import UNITS
from edgesem.bundle.bundle import Bundle
from runtime.mqtt.loopback_broker import find_tool
from tests.support.publishing import wait_for
from tests.support.real_broker import Mosquitto, draw_pictures
from tests.support.unit_sandbox import Unit, can_mount

pytestmark = [
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="needs libseccomp"),
]
ROOT = Path(__file__).parents[3]


def in_sandbox(unit_path, writable, *arguments):
    """The command that runs Python with these arguments in a unit's sandbox."""
    sandbox = [sys.executable, "-m", "tests.support.unit_sandbox", str(unit_path), *map(str, writable), "--"]
    return [*sandbox, sys.executable, *arguments]


class Daemon:
    """A daemon under its unit; `said` is what it tells systemd."""

    def __init__(self, unit_path, config, home, mounts):
        self.unit, self.said, self.log = Unit(unit_path), [], []
        folders = {name: home / name for name in ("state", "run", "cache", "tmp")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folders["run"] / "notify"))
        os.chmod(folders["run"] / "notify", 0o777)
        command = shlex.split(self.unit.one("ExecStart"))
        paths = {
            command[0]: None,
            command[command.index("--config") + 1]: str(config),
            "/opt/edgesem/current/bundle": str(Bundle.open().folder),
        }
        arguments = [paths.get(word, word) for word in command[1:]]
        environment = {
            **os.environ,
            **self.unit.environment(),
            "HOME": str(folders["state"]),
            "XDG_CACHE_HOME": str(folders["cache"]),
            "STATE_DIRECTORY": str(folders["state"]),
            "RUNTIME_DIRECTORY": str(folders["run"]),
            "TMPDIR": str(folders["tmp"]),
            "NOTIFY_SOCKET": str(folders["run"] / "notify"),
            "PYTHONPATH": str(ROOT),
            "SANDBOX_MOUNTS": "1" if mounts else "",
        }
        self.process = subprocess.Popen(
            in_sandbox(unit_path, folders.values(), "-m", "edgesem", *arguments),
            env=environment,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [threading.Thread(target=self._hear, daemon=True), threading.Thread(target=self._read)]
        for thread in self._threads:
            thread.start()

    def _hear(self):
        while True:
            try:
                self.said.append(self._socket.recv(1024).decode())
            except OSError:
                return

    def _read(self):
        self.log.extend(self.process.stderr)

    def is_ready(self):
        """Whether systemd would take it for started, and for alive; fails the test if it has ended."""
        assert self.process.poll() is None, "".join(self.log[-20:])
        return {"READY=1", "WATCHDOG=1"} <= set(self.said)

    def stop(self):
        """Stop it as systemd does; its exit code, within the time that the unit gives."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(float(self.unit.one("TimeoutStopSec")))

    def close(self):
        self.process.kill()
        self.process.wait()
        self._threads[1].join()
        self.process.stderr.close()
        self._socket.close()


def test_both_daemons_show_a_picture_under_their_units(tmp_path):
    mounts = can_mount()
    home = tmp_path / "home"
    tmp_path.chmod(0o755)
    broker = Mosquitto(tmp_path / "broker")
    pictures = draw_pictures(tmp_path / "pictures", count=4)
    (tmp_path / "seal.key").write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    (tmp_path / "password").write_text("p")
    for name in ("seal.key", "password"):
        (tmp_path / name).chmod(0o640)
    out = home / "receiver" / "state" / "received"
    common = f"""
[broker]
port = {broker.port}
user = "u"
password_file = "{tmp_path}/password"
[seal]
key_file = "{tmp_path}/seal.key"
"""
    (tmp_path / "send.toml").write_text(
        f'{common}[source]\nuri = "{pictures}"\nloop = true\n[stream]\ndevice = "unit"\n[promise]\nevery = 2\n'
    )
    (tmp_path / "receive.toml").write_text(
        f'{common}[out]\nfolder = "{out}"\nhttp = "0"\narchive = "{out.parent}/archive"\nhome_assistant = true\n'
    )
    daemons = []
    try:
        for end, config in (("receiver", "receive.toml"), ("sender", "send.toml")):
            daemons.append(Daemon(UNITS / f"edgesem-{end}.service", tmp_path / config, home / end, mounts))
            wait_for(daemons[-1].is_ready)
        for folder in ("promised", "main"):
            wait_for(lambda name=folder: all(one.is_ready() for one in daemons) and list(out.rglob(f"{name}/*.png")))
        for daemon in reversed(daemons):
            assert daemon.stop() == 0, "".join(daemon.log[-20:])
            assert "STOPPING=1" in daemon.said
    finally:
        for daemon in daemons:
            daemon.close()
            print("".join(daemon.log[-40:]))
        broker.kill()


def test_the_units_filter_really_forbids(tmp_path):
    probe = "import os, socket\n" + "\n".join(
        f"try:\n    {call}\n    print('allowed')\nexcept OSError as error:\n    print(error.errno)"
        for call in ("os.nice(1)", "os.setpriority(os.PRIO_PROCESS, 0, 5)", "socket.socket(17, 2)", "os.getpid()")
    )
    for name in ("receiver", "sender"):
        answer = subprocess.run(
            in_sandbox(UNITS / f"edgesem-{name}.service", (), "-c", probe),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert answer.stdout.split() == ["1", "1", "1", "allowed"], name
