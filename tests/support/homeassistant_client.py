"""A client that hears on a broker what Home Assistant would, and a receiver that tells it."""

import json
import queue
import time
from contextlib import contextmanager

from runtime.mqtt.connection import Connection
from runtime.mqtt.loopback_broker import Broker
from tests.support.publishing import DEADLINE_S, frame
from tests.support.receive_daemon import Camera, ReceiveDaemon


class Home:
    """A client that hears what Home Assistant would."""

    def __init__(self, broker):
        self.heard = queue.Queue()
        self.connection = Connection(
            broker.address,
            name="ha",
            subscribe=["homeassistant/#", "edgesem/v1/test/+/+/jpeg", "edgesem/v1/test/+/+/availability"],
            on_message=lambda topic, payload: self.heard.put((topic, payload)),
        )

    def next(self, topic_start, wanted=lambda _: True):
        """The next message below a topic whose payload is wanted."""
        until_s = time.monotonic() + DEADLINE_S
        while True:
            topic, payload = self.heard.get(timeout=max(0.0, until_s - time.monotonic()))
            if topic.startswith(topic_start) and wanted(payload):
                return topic, payload

    def figures(self, topic, **wanted):
        """The next figures that say this."""

        def are_wanted(payload):
            return wanted.items() <= json.loads(payload).items()

        return json.loads(self.next(topic, are_wanted)[1])


@contextmanager
def served(*flags):
    """A client as Home Assistant is one, a camera that has a picture here, and their receiver."""
    with Broker(kind="mosquitto") as broker:
        home = Home(broker)
        with (
            home.connection,
            Camera(broker, "gate") as camera,
            ReceiveDaemon(broker, "test/+/+", "--home-assistant", *flags) as daemon,
        ):
            camera.send_until_heard()
            camera.send(frame(500))
            daemon.next("picture")
            yield broker, home, camera, daemon
