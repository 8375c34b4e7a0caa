"""The sender against a link that the test plays: what it publishes when, and what it makes of acknowledgements."""

import queue
import threading

import numpy as np
import pytest

from edgesem.errors import BudgetError, LinkError
from edgesem.packet import Packet
from runtime.ack import Ack
from runtime.capacity import Capacity
from runtime.capture import Frame, clock_ms
from runtime.control import Control
from runtime.mqtt import Topics
from runtime.sender import Sender

TOPICS = Topics()
WAIT_S = 10


class Codec:
    """Four layers of the same size, which fill the budget; at least 400 bytes."""

    def __init__(self):
        self.budgets = []

    def analyze(self, frame):
        return frame.shape

    def pack(self, latent, *, budget_bytes, epoch, frame, time_ms):
        self.budgets.append(budget_bytes)
        if budget_bytes < 400:
            raise BudgetError("too small", smallest_bytes=400)
        chunk = bytes((budget_bytes - 24) // 4 - 2)
        height, width, _ = latent
        return Packet(7, epoch, frame, time_ms, width, height, 9, 4, 0, (chunk,) * 4)


class Bench:
    """A sender whose messages come out of a queue, and whose acknowledgements the test gives."""

    def __init__(self, *, interval_s=0.05, fail=0):
        self.published = queue.Queue()
        self.told = []
        self.events = queue.Queue()
        self.codec = Codec()
        self.stop = threading.Event()
        self.failures_left = fail
        self.capacity = Capacity()
        self.sender = Sender(
            codec=self.codec,
            topics=TOPICS,
            control=Control(interval_s=interval_s),
            capacity=self.capacity,
            publish=self.publish,
            tell=self.tell,
            stop=self.stop,
        )

    def tell(self, **fields):
        self.told.append(fields)
        self.events.put((fields["event"], fields["frame"]))

    def publish(self, topic, payload):
        if self.failures_left:
            self.failures_left -= 1
            raise LinkError("not connected")
        self.published.put((topic, Packet.from_bytes(payload)))

    def start(self, count):
        frames = (Frame(np.zeros((48, 64, 3), np.uint8), f"f{number}", clock_ms()) for number in range(count))
        self.thread = threading.Thread(target=self.sender.send, args=(frames,))
        self.thread.start()

    def acknowledge(self, part):
        ack = Ack(part.epoch, part.frame, part.first_layer, clock_ms(), 0)
        self.sender.on_message(TOPICS.ack, ack.to_bytes())

    def end(self):
        self.stop.set()
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.end()


def test_every_frame_goes_out_in_order_base_first_and_is_acknowledged(bench):
    bench.start(3)
    seen = []
    for _ in range(12):
        topic, part = bench.published.get(timeout=WAIT_S)
        assert topic == TOPICS.layer(part.first_layer)
        seen.append((part.frame, part.first_layer))
        bench.acknowledge(part)
    bench.thread.join(WAIT_S)
    assert seen == [(frame, layer) for frame in range(3) for layer in range(4)]
    assert sum(fields["event"] == "acked" for fields in bench.told) == 12
    assert bench.sender.unacknowledged == 0


def test_the_first_budget_is_small_and_later_ones_follow_the_measured_rate():
    bench = Bench(interval_s=0.2)
    bench.start(2)
    for _ in range(8):
        bench.acknowledge(bench.published.get(timeout=WAIT_S)[1])
    bench.end()
    first, second = (fields for fields in bench.told if fields["event"] == "packed")
    assert (first["budget_bytes"], first["capacity_bps"]) == (1500, None)
    assert second["capacity_bps"] > 0
    assert bench.codec.budgets[0] < 1500  # what MQTT and the headers take is off


def test_nothing_more_is_published_while_the_window_is_full(bench):
    bench.start(1)
    sent = [bench.published.get(timeout=WAIT_S)[1] for _ in range(4)]  # 1500 bytes fit the window of 2000
    bench.acknowledge(sent[0])
    bench.thread.join(0.3)
    assert bench.thread.is_alive()  # it waits for the other three
    for part in sent[1:]:
        bench.acknowledge(part)
    bench.thread.join(WAIT_S)
    assert not bench.thread.is_alive()


def test_layers_that_wait_give_way_to_the_next_frame_but_a_base_layer_never_does():
    bench = Bench(interval_s=0.01)
    bench.start(4)
    sent = [bench.published.get(timeout=WAIT_S)[1] for _ in range(5)]
    assert [(part.frame, part.first_layer) for part in sent] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    # The window is full. Frame 2 takes the place of frame 1's other layers; frame 3 then waits for frame 2's base.
    while bench.events.get(timeout=WAIT_S) != ("packed", 3):
        pass
    for part in sent:
        bench.acknowledge(part)
    later = []
    while (part := bench.published.get(timeout=WAIT_S)[1]) and (part.frame, part.first_layer) != (3, 3):
        later.append((part.frame, part.first_layer))
        bench.acknowledge(part)
    assert later[0] == (2, 0)
    assert (3, 0) in later
    bench.end()


def test_a_frame_that_cannot_be_small_enough_is_sent_as_small_as_it_can_be():
    bench = Bench()
    bench.capacity.acked(size_bytes=10, sent_s=0, now_s=1)  # 80 bit/s
    bench.start(1)
    part = bench.published.get(timeout=WAIT_S)[1]
    assert bench.codec.budgets == [1, 400]
    assert part.frame == 0
    bench.end()


def test_a_lost_connection_is_waited_for():
    bench = Bench(fail=2)
    bench.start(1)
    for layer in range(4):
        part = bench.published.get(timeout=WAIT_S)[1]
        assert part.first_layer == layer
        bench.acknowledge(part)
    bench.thread.join(WAIT_S)
    assert not bench.thread.is_alive()
    bench.end()


def test_acknowledgements_that_mean_nothing_are_ignored(bench):
    bench.start(1)
    part = bench.published.get(timeout=WAIT_S)[1]
    bench.sender.on_message(TOPICS.ack, b"\xff\xff")
    bench.sender.on_message(TOPICS.ack, Ack((part.epoch + 1) % 65536, 0, 0, 0, 0).to_bytes())
    bench.sender.on_message(TOPICS.ack, Ack(part.epoch, 99, 0, 0, 0).to_bytes())
    assert not any(fields["event"] == "acked" for fields in bench.told)
    assert bench.capacity.rate_bps is None
    bench.acknowledge(part)
    bench.acknowledge(part)
    assert sum(fields["event"] == "acked" for fields in bench.told) == 1


def test_a_stop_ends_it_at_once(bench):
    bench.start(1000)
    bench.published.get(timeout=WAIT_S)
    bench.end()


def test_a_layer_that_nobody_acknowledges_is_given_up(bench, monkeypatch):
    monkeypatch.setattr("runtime.sender._ACK_TIMEOUT_S", 0.05)
    bench.start(1)
    bench.thread.join(WAIT_S)
    assert bench.sender.unacknowledged == 4
