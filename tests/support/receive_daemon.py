"""`edgesem receive` as a process, and a camera whose packets it receives."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading

import pytest

from runtime.mqtt.connection import Connection
from runtime.protocol.topics import Topics
from tests.support.publishing import DEADLINE_S, frame


class ReceiveDaemon:
    """`edgesem receive` as a process; what it says is in `events`."""

    def __init__(self, broker, *args, env=None):
        address = broker.address
        self.events = queue.Queue()
        self.said = []
        where = ["--port", str(address.port), "--user", address.user]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgesem", "receive", *args, *where, "--workers", "1", "--json"],
            env={**os.environ, "EDGESEM_PASSWORD": address.password, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._log, daemon=True),
        ]
        self.log = []
        for thread in self._threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def _log(self):
        self.log.extend(self.process.stderr)

    def next(self, event):
        """The next event of that name."""
        while True:
            told = self.events.get(timeout=DEADLINE_S)
            self.said.append(told)
            if told["event"] == event:
                return told

    def end(self):
        """Ask it to end and return its last words."""
        self.process.send_signal(signal.SIGTERM)
        done = self.next("done")
        assert self.process.wait(DEADLINE_S) == 0
        return done

    def __enter__(self):
        self.url = self.next("ready")["url"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Camera:
    """Publishes as a sender does, and hears what is answered."""

    def __init__(self, broker, device, stream="main"):
        self.topics = Topics("test", device, stream)
        self.acks, self.commands = queue.Queue(), queue.Queue()
        self.connection = Connection(
            broker.address, name="camera", subscribe=[self.topics.ack, self.topics.cmd], on_message=self._hear
        )

    def _hear(self, topic, payload):
        if payload:  # an empty command asks for the birth
            (self.acks if topic == self.topics.ack else self.commands).put(payload)

    def send(self, packet, layers=None):
        for part in [packet] if packet.promised else packet.split()[:layers]:
            self.connection.publish(self.topics.layer(part.first_layer), part.to_bytes())

    def send_until_heard(self, number=0):
        """Send frames until one is acknowledged: the receiver has subscribed. Returns the next frame number."""
        for tried in range(int(DEADLINE_S / 0.5)):
            self.send(frame(number + tried))
            try:
                self.acks.get(timeout=0.5)
            except queue.Empty:
                continue
            return number + tried + 1
        pytest.fail("nothing is acknowledged")

    def __enter__(self):
        self.connection.__enter__()
        return self

    def __exit__(self, *_):
        self.connection.__exit__(None, None, None)
