"""Simulated camera at a real broker: what it refers to, and that what it sends can be decoded."""

import queue
import time

import numpy as np
import pytest

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference
from runtime.bench.fleet.camera import Camera
from runtime.bench.fleet.recorded import Stamper, record
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.protocol.ack import Ack
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from tests.support.edgesem_process import WAIT_S
from tests.support.publishing import codec
from tests.support.real_broker import Mosquitto, needs_mosquitto

TOPICS = Topics("s", "camera", "main")


@pytest.fixture(scope="module")
def stamper():
    return Stamper(record(2, (96, 64), 1500, inter_frames=2))


def test_packets_are_stamped_anew_and_decode_as_they_were_recorded(stamper):
    step, known, expected, name = stamper.keyframe(3), None, None, None
    for frame in (41, 45, 46):
        recorded = stamper.packet(step, epoch=0, frame=2)
        sent = Packet.from_bytes(stamper.packet(step, epoch=3, frame=frame, reference=name).to_bytes())
        assert (sent.epoch, sent.frame, sent.promised, sent.chunks) == (3, frame, False, recorded.chunks)
        assert sent.side_info.reference == (name and Reference(name.frame, 4, recorded.side_info.reference.copies))
        expected, known = codec().unpack(recorded, expected), codec().unpack(sent, known)
        assert np.array_equal(known.values, expected.values)
        step, name = stamper.following(step), Reference(frame, 4)
    assert step is None
    promised = stamper.packet(stamper.keyframe(0), epoch=3, frame=9, promised=True)
    assert promised.promised
    assert promised.side_info.time_high is not None


class Stand:
    """A camera at a broker, and a receiver that says what the test wants."""

    def __init__(self, broker, stamper, promise_every=0):
        address = Address("127.0.0.1", broker.port, "u", "p")
        self.now_s = 100.0
        self.camera = Camera(
            TOPICS, [address], "5", stamper, fps=1, promise_every=promise_every, clock=lambda: self.now_s
        )
        self._packets = queue.Queue()
        self._connection = Connection(
            [address], name="stand", subscribe=TOPICS.every_layer, on_message=lambda _, data: self._packets.put(data)
        )

    def __enter__(self):
        self._connection.__enter__()
        self.camera.connect()
        self._serve(lambda: self.camera.up)
        return self

    def __exit__(self, *about):
        self.camera.client.disconnect()
        self._connection.__exit__(*about)

    def film(self):
        """The frame that the camera sends next: its number, and of which it is predicted."""
        self.now_s += 1
        self.camera.film()
        return self.sent()

    def sent(self):
        self._serve(lambda: not self._packets.empty())
        packet = Packet.from_bytes(self._packets.get())
        return packet.frame, packet.side_info.reference and packet.side_info.reference.frame

    def hold(self, frame, receiver=1, held=4, kept=0):
        """A receiver says that it holds a frame from so many layers, or keeps it."""
        before = self.camera.acked
        ack = Ack(self.camera._epoch, frame, max(held - 1, 0), 0, 1, kept=kept, receiver=receiver, held=held)
        self._connection.publish(TOPICS.ack, ack.to_bytes())
        self._serve(lambda: self.camera.acked > before)

    def ask_for_key(self):
        self._connection.publish(TOPICS.cmd, Command("key").to_bytes())

    def _serve(self, done):
        deadline_s = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < deadline_s
            self.camera.client.loop(0.01)


@needs_mosquitto
def test_it_refers_to_what_receivers_hold_and_to_nothing_else(stamper, tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    try:
        with Stand(broker, stamper) as stand:
            assert [stand.film(), stand.film()] == [(0, None), (1, None)]  # nobody holds anything
            stand.hold(0)
            assert [stand.film(), stand.film()] == [(2, 0), (3, 0)]  # frame 2 is lost, or under way
            stand.hold(3)
            assert stand.film() == (4, 3)
            stand.hold(4)
            assert stand.film() == (5, None)  # a recorded sequence has ended
            stand.hold(5, held=2)
            assert stand.film() == (6, None)  # nothing was recorded that is predicted from two layers
            stand.hold(6)
            stand.hold(5, receiver=2)
            assert stand.film() == (7, None)  # the other one does not hold frame 6
            stand.hold(7)
            stand.hold(7, receiver=2)
            assert stand.film() == (8, 7)
            stand.now_s += 6
            stand.ask_for_key()
            assert stand.sent() == (9, None)
            assert stand.camera.inter_frames == 4
    finally:
        broker.kill()


@needs_mosquitto
def test_a_promised_frame_is_sent_again_until_a_receiver_keeps_it_each_time_later(stamper, tmp_path):
    broker = Mosquitto(tmp_path / "broker")
    try:
        with Stand(broker, stamper, promise_every=3) as stand:
            assert stand.film() == (0, None)
            for wait_s, again in ((9, False), (2, True), (19, False), (2, True), (39, False), (2, True)):
                stand.now_s += wait_s
                stand.camera.say_state()
                if again:
                    assert stand.sent() == (0, None)
            assert stand.film() == (1, None)  # nothing was sent that was not due
            stand.hold(0, held=0, kept=1)
            assert (stand.camera.kept, stand.camera.waiting) == (1, {})
    finally:
        broker.kill()
