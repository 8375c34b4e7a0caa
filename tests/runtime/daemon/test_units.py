"""Both daemons as their units run them: with the units' own user, folders, write paths, system calls and privileges."""

import base64
import ctypes.util
import os
import re
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
from tests.support.unit_sandbox import Unit, make_board

pytestmark = [
    pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="needs libseccomp"),
]
ROOT = Path(__file__).parents[3]


def in_sandbox(unit_path, home, *arguments):
    """The command that runs Python with these arguments in a unit's sandbox; `home` is a board, or None."""
    board = [] if home is None else ["--board", str(home)]
    sandbox = [sys.executable, "-m", "tests.support.unit_sandbox", *board, str(unit_path), "--"]
    return [*sandbox, sys.executable, *arguments]


class Daemon:
    """A daemon under its unit, on the board `home`; `said` is what it tells systemd.

    With `prefix`, `home` only has a board's folders: all paths are below it, and neither user nor write paths are the
    unit's.
    """

    def __init__(self, unit_path, home, prefix=""):
        self.unit, self.said, self.log = Unit(unit_path), [], []
        notify = f"/run/notify-{unit_path.stem}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"{home}{notify}")
        os.chmod(f"{home}{notify}", 0o777)
        command = shlex.split(self.unit.one("ExecStart"))
        bundle = {"/opt/edgesem/current/bundle": str(Bundle.open().folder)}
        arguments = [bundle.get(word, prefix + word if word.startswith("/") else word) for word in command[1:]]
        state, run, cache = (prefix + folder for folder in self.unit.folders())
        if prefix:
            for folder in (state, run, cache):
                os.makedirs(folder, exist_ok=True)
        settings = self.unit.environment()
        settings = {name: prefix + value if value.startswith("/") else value for name, value in settings.items()}
        environment = {
            **os.environ,
            **settings,
            "STATE_DIRECTORY": state,
            "RUNTIME_DIRECTORY": run,
            "CACHE_DIRECTORY": cache,
            "TMPDIR": f"{prefix}/var/tmp",
            "NOTIFY_SOCKET": prefix + notify,
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            in_sandbox(unit_path, None if prefix else home, "-m", "edgesem", *arguments),
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

    def user_ids(self):
        """Real, effective, saved and file system user of its process, and of those that it has started."""
        started = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        status = [Path(f"/proc/{pid}/status").read_text() for pid in (self.process.pid, *started)]
        return {number for text in status for number in re.search(r"^Uid:(.*)", text, re.MULTILINE)[1].split()}

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


def configure(home, prefix, port):
    """What both daemons read, in files for root alone; the paths in them begin with `prefix`."""
    etc = home / "etc/edgesem"
    common = f"""
[broker]
port = {port}
user = "u"
password_file = "{prefix}/etc/edgesem/password"
[seal]
key_file = "{prefix}/etc/edgesem/seal.key"
"""
    files = {
        "seal.key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "password": "p",
        "send.toml": f'{common}[source]\nuri = "{prefix}/etc/edgesem/pictures"\nloop = true\n'
        '[stream]\ndevice = "unit"\n[promise]\nevery = 2\n',
        "receive.toml": f'{common}[out]\nfolder = "{prefix}/var/lib/edgesem/received"\nkind = "png"\nhttp = "0"\n'
        f'archive = "{prefix}/var/lib/edgesem/archive"\nhome_assistant = true\n',
    }
    etc.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in files.items():
        (etc / name).write_text(text)
        (etc / name).chmod(0o600)


def test_both_daemons_show_a_picture_under_their_units(tmp_path):
    home, prefix = tmp_path / "board", ""
    state = home / "var/lib/edgesem"
    broker = Mosquitto(tmp_path / "broker")
    configure(home, "", broker.port)
    draw_pictures(home / "etc/edgesem/pictures", count=4)
    if (lacking := make_board(home)) is not None:
        prefix = str(home)
        for folder in (home / "run", home / "var/tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        configure(home, prefix, broker.port)
    daemons = []
    try:
        for end in ("receiver", "sender"):
            daemons.append(Daemon(UNITS / f"edgesem-{end}.service", home, prefix))
            wait_for(daemons[-1].is_ready)
        for folder in ("promised", "main"):
            wait_for(
                lambda name=folder: (
                    all(one.is_ready() for one in daemons) and list((state / "received").rglob(f"{name}/*.png"))
                )
            )
        if not prefix:
            assert state.stat().st_uid != 0
            for daemon in daemons:
                assert daemon.user_ids() == {str(state.stat().st_uid)}
        for daemon in reversed(daemons):
            assert daemon.stop() == 0, "".join(daemon.log[-20:])
            assert "STOPPING=1" in daemon.said
    finally:
        for daemon in daemons:
            daemon.close()
            print("".join(daemon.log[-40:]))
        broker.kill()
        print("under the units' own user" if not prefix else f"without the units' user and folders: {lacking}")


def test_the_units_filter_really_forbids(tmp_path):
    probe = "import os, socket\n" + "\n".join(
        f"try:\n    {call}\n    print('allowed')\nexcept OSError as error:\n    print(error.errno)"
        for call in ("os.nice(1)", "os.setpriority(os.PRIO_PROCESS, 0, 5)", "socket.socket(17, 2)", "os.getpid()")
    )
    for name in ("receiver", "sender"):
        answer = subprocess.run(
            in_sandbox(UNITS / f"edgesem-{name}.service", None, "-c", probe),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert answer.stdout.split() == ["1", "1", "1", "allowed"], name
