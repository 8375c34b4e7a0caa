"""A sender whose link the test plays: a codec and a control that the test sets, and a queue of what is published."""

import queue

import numpy as np

from edgesem.errors import BudgetError
from edgesem.packet.packet import Packet
from runtime.capture.frame import Frame
from runtime.mqtt.connection import Topics
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.sender.sender import Sender

TOPICS = Topics()
WAIT_S = 30


class Codec:
    """Four layers of the same size, which fill the budget; at least 400 bytes. `q` is the budget in hundreds."""

    def __init__(self):
        self.shapes, self.budgets = [], []

    def analyze(self, frame):
        self.shapes.append(frame.shape)
        return frame.shape

    def pack(self, latent, *, budget_bytes, epoch, frame, time_ms):
        self.budgets.append(budget_bytes)
        if budget_bytes < 400:
            raise BudgetError("too small", smallest_bytes=400)
        chunk = bytes((budget_bytes - 24) // 4 - 2)
        height, width, _ = latent
        return Packet(7, epoch, frame, time_ms, width, height, min(255, budget_bytes // 100), 4, 0, (chunk,) * 4)


class Control:
    """A budget and a window that the test sets."""

    def __init__(self, *, interval_s=0.01, budget_bytes=1500, window_bytes=10**6):
        self.interval_s, self.budget, self.window, self.min_bytes = interval_s, budget_bytes, window_bytes, 0
        self.under_way, self.acks, self.losses, self.rate_bps = 0, 0, 0, None

    def connected(self, now_s, rtt_s):
        self.under_way = 0

    def budget_bytes(self, now_s, *, ready_in_s=0.0):
        return None if self.budget is None else max(self.budget, self.min_bytes)

    def room(self, now_s, *, size_bytes, base):
        return not self.under_way or self.under_way + size_bytes <= self.window

    def sent(self, now_s, *, size_bytes, base=False):
        self.under_way += size_bytes

    def acked(self, now_s, *, size_bytes, sent_s):
        self.under_way -= size_bytes
        self.acks += 1

    def lost(self, now_s, *, size_bytes):
        self.under_way -= size_bytes
        self.losses += 1

    def state(self):
        return {"capacity_bps": self.rate_bps, "rtt_s": None, "window_bytes": self.window}


class Bench:
    """A sender whose messages come out of a queue, and whose confirmations and acknowledgements the test gives."""

    def __init__(self, *, spool=None, seal=None, fail=(), start=True, **more):
        self.published = queue.Queue()
        self.told = queue.Queue()
        self.codec = Codec()
        self.failures = list(fail)
        self.stuck = queue.Queue()
        known = {"interval_s", "budget_bytes", "window_bytes"}
        self.control = Control(**{key: more.pop(key) for key in known & set(more)})
        self.sender = Sender(
            codec=self.codec,
            topics=TOPICS,
            control=self.control,
            publish=self.publish,
            tell=lambda **fields: self.told.put(fields),
            spool=spool,
            seal=seal,
            stuck=self.stuck.put,
            **more,
        )
        if start:
            self.sender.__enter__()

    def publish(self, topic, payload, confirm):
        if self.failures:
            raise self.failures.pop(0)
        self.published.put((topic, payload, confirm))

    def offer(self, name="f", size=64):
        self.sender.offer(Frame(np.zeros((size, size, 3), np.uint8), name, clock_ms()))

    def next(self):
        """The next packet that was published, with what confirms it."""
        topic, payload, confirm = self.published.get(timeout=WAIT_S)
        part = Packet.from_bytes(payload)
        assert topic == TOPICS.layer(part.first_layer)
        return part, confirm

    def expect(self, event):
        while True:
            fields = self.told.get(timeout=WAIT_S)
            if fields["event"] == event:
                return fields

    def acknowledge(self, part, kept=0):
        ack = Ack(part.epoch, part.frame, part.first_layer, clock_ms(), 0, kept)
        self.sender.on_message(TOPICS.ack, ack.to_bytes())
