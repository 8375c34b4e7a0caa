"""Real brokers on loopback, as the tests start, kill and freeze them; and the small pictures that senders send."""

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.mqtt.mosquitto import Listening, find_tool, start_mosquitto
from tests.support.edgesem_process import WAIT_S, free_port

needs_mosquitto = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


class Mosquitto:
    """Our own configuration of mosquitto, with one user, `u`, and persistence in `folder`."""

    def __init__(self, folder, **listening):
        self.port = free_port()
        self._folder = folder
        folder.mkdir(mode=0o700)
        (folder / "password").write_text("p")
        (folder / "password").chmod(0o600)
        self.there = ("--port", self.port, "--user", "u", "--password-file", folder / "password")
        """The flags by which a daemon finds it."""
        self._listening = Listening("127.0.0.1", self.port, {"u": "p"}, keep_in=folder, **listening)
        self.start()

    def start(self):
        self.process = start_mosquitto(self._listening, self._folder, subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


def wait_for_port(port, process, patience_s=WAIT_S):
    """Wait until somebody listens on `port`; fails if `process` ends before."""
    deadline_s = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert process.poll() is None, f"it ended with exit code {process.returncode}"
        assert time.monotonic() < deadline_s, f"nobody listens on {port}"
        time.sleep(0.02)


def processes_of(word):
    """Numbers of the processes that have this word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if str(word).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def draw_pictures(folder, count=8, size=(96, 80)):
    """Make `folder` with so many small pictures, and return it."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(count):
        small = rng.integers(0, 255, (6, 8, 3), np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder
