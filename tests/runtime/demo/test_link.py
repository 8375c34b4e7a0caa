"""Sender, relay, broker and receiver together over real TCP, with a codec that only makes bytes of the right number."""

from dataclasses import replace

import numpy as np
import pytest

from edgesem.packet.packet import Packet
from runtime.bench.relay import Relay
from runtime.capture.frame import Frame
from runtime.congestion.control import Control
from runtime.demo.patient import send_all
from runtime.demo.receiver import Receiver
from runtime.mqtt.connection import Connection, Topics
from runtime.mqtt.loopback_broker import Broker, find_tool
from runtime.protocol.clock import clock_ms
from runtime.sender.sender import Sender

TOPICS = Topics(stream="test")
RATE_BPS = 200e3

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="mosquitto is not installed")


class Codec:
    def analyze(self, frame):
        return frame.shape

    def pack(self, latent, *, budget_bytes, epoch, frame, time_ms):
        chunk = bytes((budget_bytes - 24) // 4 - 2)
        return Packet(7, epoch, frame, time_ms, latent[1], latent[0], 9, 4, 0, (chunk,) * 4)

    def unpack(self, packet):
        return packet

    def synthesize(self, packet):
        return np.zeros((packet.height, packet.width, 3), np.uint8)


def frames(count):
    for number in range(count):
        yield Frame(np.zeros((48, 64, 3), np.uint8), str(number), clock_ms())


@pytest.fixture(scope="module")
def broker():
    with Broker(kind="mosquitto") as running:
        yield running


@pytest.fixture
def receiver(broker):
    """A receiver that is connected straight to the broker."""
    receiver = Receiver(
        codec=Codec(),
        bundle_id=7,
        topics=TOPICS,
        acknowledge=lambda ack: connection.publish(TOPICS.ack, ack.to_bytes()),
        backlog=100,
    )
    connection = Connection(broker.address, name="r", subscribe=TOPICS.every_layer, on_message=receiver.on_message)
    with connection:
        yield receiver


def test_a_stream_fills_a_thin_link_and_learns_its_rate(broker, receiver):
    told = []
    control = Control(interval_s=0.2)
    with Relay(target=(broker.address.host, broker.address.port), rate_bps=RATE_BPS) as relay:
        address = replace(broker.address, port=relay.port)
        sender = Sender(
            codec=Codec(),
            topics=TOPICS,
            control=control,
            publish=lambda topic, payload, confirm: connection.publish(topic, payload, confirm=confirm),
            tell=lambda **fields: told.append(fields),
        )
        connection = Connection(
            address,
            name="s",
            subscribe=TOPICS.ack,
            on_message=sender.on_message,
            on_up=lambda: sender.connected(connection.rtt_s),
        )
        with connection:
            unheard = send_all(sender, frames(10), interval_s=0.2)
    assert unheard == 0
    assert receiver.counters.malformed == 0
    sent = [fields for fields in told if fields["event"] == "sent"]
    acked = [fields for fields in told if fields["event"] == "acked"]
    layers = [sum(fields["layers"] for fields in told) for told in (sent, acked)]
    assert layers == [receiver.counters.layers] * 2
    assert {fields["frame"] for fields in sent if fields["layer"] == 0} == set(range(10))
    # A stalled machine makes the link look slower than it is; nothing but an error makes it look much faster.
    assert 0.3 * RATE_BPS < sender.state().capacity_bps < 2 * RATE_BPS
    assert relay.forwarded_bytes > sum(fields["size_bytes"] for fields in sent)
    received = [receiver.next_picture(timeout_s=5).packet.frame for _ in range(9)]
    assert received == list(range(9))
    receiver.flush()
    assert receiver.next_picture(timeout_s=5).packet.frame == 9


def test_malformed_messages_over_mqtt_do_not_stop_the_receiver(broker, receiver):
    whole = Packet(7, 1, 0, clock_ms(), 64, 48, 9, 4, 0, (b"a", b"b", b"c", b"d"))
    with Connection(broker.address, name="s") as stranger:
        for payload in (
            b"",
            b"\0" * 5000,
            replace(whole, bundle_id=8).to_bytes(),
            whole.to_bytes()[:-1],
            bytes(range(256)),
        ):
            stranger.publish(TOPICS.layer(0), payload)
        stranger.publish(TOPICS.layer(9), whole.split()[0].to_bytes())
        for part in whole.split():
            stranger.publish(TOPICS.layer(part.first_layer), part.to_bytes())
        assert receiver.next_picture(timeout_s=10).packet == whole
    assert receiver.counters.malformed == 6
    assert receiver.counters.layers == 4
