"""A receiver, played by a test."""

import queue

from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.mqtt.connection import Connection
from runtime.protocol.ack import Ack
from runtime.protocol.birth import Birth
from runtime.protocol.clock import clock_ms
from tests.support.edgesem_process import WAIT_S


class Viewer:
    """Takes all messages of the stream, and acknowledges what it is told to."""

    def __init__(self, address, topics, seal_key=None):
        self.topics = topics
        self.messages = queue.Queue()
        self.key = seal_key
        self.seal = None
        self.connection = Connection(
            address, name="viewer", subscribe=f"{topics.base}/#", on_message=lambda *message: self.messages.put(message)
        )

    def next(self, kind):
        """The next message whose topic goes on with `kind`."""
        while True:
            topic, payload = self.messages.get(timeout=WAIT_S)
            if topic.startswith(f"{self.topics.base}/{kind}"):
                return payload

    def birth(self):
        birth = Birth.from_bytes(self.next("birth"), base=self.topics.base)
        self.seal = Seal(self.key, stream=self.topics.base, salt=birth.salt) if self.key else None
        return birth

    def packet(self):
        payload = self.next("pkt/")
        return Packet.from_bytes(self.seal.open(payload) if self.seal else payload)

    def say(self, topic, payload):
        self.connection.publish(topic, self.seal.sign(payload, topic) if self.seal else payload)

    def keep(self, packet):
        self.say(self.topics.ack, Ack(packet.epoch, packet.frame, packet.first_layer, clock_ms(), 0, 1).to_bytes())
