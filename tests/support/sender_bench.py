"""A sender pipeline whose link the test plays, with a codec and a control that the test sets."""

import queue
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from edgesem.errors import BudgetError
from edgesem.packet.packet import Packet
from runtime.capture.frame import Frame
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.command import Command
from runtime.protocol.topics import Topics
from runtime.sender.options import PipelineOptions
from runtime.sender.pipeline import SenderPipeline

TOPICS = Topics()
WAIT_S = 30


class Codec:
    """Layers of the same size, which fill the budget with the picture's brightness; at least 400 bytes. `q` is the
    budget in hundreds."""

    def __init__(self, layers=4):
        self.layers, self.shapes, self.budgets = layers, [], []

    def analyze(self, image):
        self.shapes.append(image.shape)
        return SimpleNamespace(level=int(image.mean()), height=image.shape[0], width=image.shape[1])

    def pack(self, latent, *, budget_bytes, options):
        self.budgets.append(budget_bytes)
        if budget_bytes < 400:
            raise BudgetError("too small", smallest_bytes=400)
        about = options.epoch, options.frame, options.time_ms, latent.width, latent.height
        empty = Packet(7, *about, min(255, budget_bytes // 100), self.layers, 0, (b"",) * self.layers)
        empty = replace(empty, side_info=options.side_info)
        chunk = bytes([latent.level]) * ((budget_bytes - empty.size_bytes) // self.layers)
        return replace(empty, chunks=(chunk,) * self.layers)


class Control:
    """A budget and a window that the test sets."""

    def __init__(self, *, interval_s=0.01, budget_bytes=1500, window_bytes=10**6):
        self.interval_s, self.budget, self.window, self.min_bytes = interval_s, budget_bytes, window_bytes, 0
        self.in_flight, self.acks, self.losses, self.rate_bps = 0, 0, 0, None

    def connected(self, now_s, rtt_s):
        self.in_flight = 0

    def budget_bytes(self, now_s, *, ready_in_s=0.0):
        return None if self.budget is None else max(self.budget, self.min_bytes)

    def room(self, now_s, *, size_bytes, base):
        return not self.in_flight or self.in_flight + size_bytes <= self.window

    def sent(self, now_s, *, size_bytes, base=False):
        self.in_flight += size_bytes

    def acked(self, now_s, *, size_bytes, sent_s):
        self.in_flight -= size_bytes
        self.acks += 1

    def lost(self, now_s, *, size_bytes):
        self.in_flight -= size_bytes
        self.losses += 1

    def progressed(self):
        return False

    def wants_rtt(self, now_s):
        return False

    def rtt_measured(self, now_s, rtt_s):
        pass

    def state(self):
        return {"capacity_bps": self.rate_bps, "rtt_s": None, "window_bytes": self.window}


class Bench:
    """A pipeline whose messages come out of a queue, and whose confirmations and acknowledgements the test gives."""

    def __init__(
        self, *, spool=None, seal=None, fail=(), clock=time.monotonic, start=True, limit_bytes=lambda: None, **options
    ):
        self.published = queue.Queue()
        self.events = queue.Queue()
        self.codec = Codec()
        self.failures = list(fail)
        self.stuck = queue.Queue()
        known = {"interval_s", "budget_bytes", "window_bytes"}
        self.control = Control(**{key: options.pop(key) for key in known & set(options)})
        self.sender = SenderPipeline(
            codec=self.codec,
            topics=TOPICS,
            control=self.control,
            publish=self.publish,
            on_event=lambda event: self.events.put(event.as_dict()),
            options=PipelineOptions(**options),
            spool=spool,
            seal=seal,
            on_stuck=self.stuck.put,
            limit_bytes=limit_bytes,
            clock=clock,
        )
        if start:
            self.sender.__enter__()

    def publish(self, topic, payload, confirm):
        if self.failures:
            raise self.failures.pop(0)
        self.published.put((topic, payload, confirm))

    def offer(self, name="f", size=64):
        self.sender.offer(Frame(np.zeros((size, size, 3), np.uint8), name, clock_ms()))

    def promise(self, *max_bytes):
        return self.sender.promise(Frame(np.zeros((64, 64, 3), np.uint8), "p", clock_ms()), *max_bytes)

    def command(self, kind, **fields):
        self.sender.on_message(TOPICS.cmd, Command(kind, **fields).to_bytes())

    def encode(self):
        """Without threads: encode all that is offered."""
        while self.sender.encode_step():
            pass

    def next(self):
        """The next packet that was published, with what confirms it."""
        topic, payload, confirm = self.published.get(timeout=WAIT_S)
        part = Packet.from_bytes(payload)
        assert topic == TOPICS.layer(part.first_layer)
        return part, confirm

    def expect(self, event):
        while True:
            fields = self.events.get(timeout=WAIT_S)
            if fields["event"] == event:
                return fields

    def acknowledge(self, part, kept=0):
        ack = Ack(part.epoch, part.frame, part.first_layer, clock_ms(), 0, kept)
        self.sender.on_message(TOPICS.ack, ack.to_bytes())


class SimulatedSender:
    """A pipeline without threads, on a clock that the test moves, at a link that takes and confirms everything."""

    def __init__(self, *, codec=None, control=None, spool=None, trigger=None, connected=True, **options):
        self.now_s, self.told, self.messages = 1000.0, [], []
        self.control, self.spool = control or Control(), spool
        self.pipeline = SenderPipeline(
            codec=codec or Codec(),
            topics=TOPICS,
            control=self.control,
            publish=self._publish,
            on_event=self.told.append,
            options=PipelineOptions(**options),
            spool=spool,
            trigger=trigger,
            clock=lambda: self.now_s,
        )
        if connected:
            self.pipeline.connected(0.001)

    def _publish(self, topic, payload, confirm):
        self.messages.append((topic, payload))
        confirm()

    @property
    def published(self):
        return [Packet.from_bytes(payload) for _, payload in self.messages]

    def frame(self, level=0):
        """A grey frame of this moment."""
        return Frame(np.full((64, 64, 3), level, np.uint8), "f", round(1000 * self.now_s))

    def show(self, count=1, level=0, picture=None):
        """Offer so many frames, one each interval; returns what became of them, as events."""
        begin = len(self.told)
        for _ in range(count):
            self.now_s += self.control.interval_s
            frame = self.frame(level)
            self.pipeline.offer(frame if picture is None else replace(frame, image=picture))
            self.step()
        return [event.as_dict() for event in self.told[begin:]]

    def step(self):
        """Do all that is to be done now."""
        while self.pipeline.encode_step() or self.pipeline.publish_step():
            pass

    def command(self, kind, **fields):
        """Send a command; returns its bytes, which can be sent again."""
        data = Command(kind, **fields).to_bytes()
        self.pipeline.on_message(TOPICS.cmd, data)
        return data
