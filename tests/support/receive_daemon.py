"""`edgesem receive` as a process, and a camera whose packets it receives."""

import contextlib
import os
import queue
import tempfile
from pathlib import Path

import pytest

from runtime.mqtt.connection import Connection
from runtime.protocol.ack import Ack
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import EdgesemProcess
from tests.support.publishing import DEADLINE_S, frame


class ReceiveDaemon(EdgesemProcess):
    """`edgesem receive` at a broker; what it says is in `events`, what it logs in `log`."""

    def __init__(self, broker, *args, env=None):
        address = broker.address
        self._taken, self._logged, self._log_file = 0, [], tempfile.NamedTemporaryFile()  # noqa: SIM115
        super().__init__(
            *("receive", *args, "--port", address.port, "--user", address.user, "--workers", 1),
            log=Path(self._log_file.name),
            env={**os.environ, "EDGESEM_PASSWORD": address.password, **(env or {})},
        )

    @property
    def log(self):
        """The lines of its log so far."""
        return self._logged or Path(self._log_file.name).read_text("utf-8").splitlines()

    def next(self, event):
        """The next event of that name."""
        told = self.wait_for(event, after=self._taken)
        self._taken = self.events.index(told, self._taken) + 1
        return told

    def skip(self):
        """Leave out what it has said so far."""
        self._taken = len(self.events)

    def end(self):
        """Ask it to end and return its last words."""
        assert super().end() == 0
        return self.next("done")

    def __enter__(self):
        self.url = self.next("ready")["url"]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.finish()
        self._logged = self.log
        self._log_file.close()


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
        """Send frames until the base layer of one is acknowledged, so that it can be drawn. Returns the next number.

        A receiver may subscribe between two layers of a frame.
        """
        for tried in range(int(DEADLINE_S / 0.5)):
            self.send(frame(number + tried))
            with contextlib.suppress(queue.Empty):
                while Ack.from_bytes(self.acks.get(timeout=0.5)).layer:
                    pass
                return number + tried + 1
        pytest.fail("nothing is acknowledged")

    def __enter__(self):
        self.connection.__enter__()
        return self

    def __exit__(self, *_):
        self.connection.__exit__(None, None, None)
