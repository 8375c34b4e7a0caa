"""Publisher of one stream: hands the layers of the newest frame, and promised frames, to the link as it has room.

A frame's layers go out while the control has room: the base layer first, those above it as many in one message as the
link takes in a short time, and all in one where it takes them in a moment. The next frame takes the place of what still
waits, so nothing stale stands here, and the MQTT client never holds more than the control's window.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from edgesem.errors import LinkError, PacketError
from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS, Packet
from edgesem.packet.seal import TAG_BYTES, Seal
from runtime.congestion.interface import LinkControl
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.clock import elapsed_s
from runtime.protocol.topics import Topics
from runtime.sender.counters import Counters
from runtime.sender.events import (
    Connected,
    Disconnected,
    LayersAcknowledged,
    LayersDropped,
    LayersSent,
    MessageRefused,
    PromiseKept,
    PromiseRejected,
    SenderEvent,
)
from runtime.sender.in_flight import InFlight, MessageKey, message_key
from runtime.sender.packetizer import after, next_part
from runtime.sender.redelivery import DueFrame, Redelivery

log = logging.getLogger(__name__)

LOOK_UP_S = 0.05
"""How often a thread that waits looks again."""
ROOM_S = 0.01
"""How often it does where there is something to send: nobody tells when the kernel's queue has shrunk."""
IDLE_S = 0.5

_MQTT_BYTES = 8  # of a PUBLISH besides topic and payload: fixed header, topic length, packet id, properties


class Confirm(Protocol):
    """What is called once the broker has answered a message: without an argument if it has the message."""

    def __call__(self, refused: str = "") -> None:
        """`refused`: the broker's reason, if it does not take it."""


Publish = Callable[[str, bytes, Confirm], None]
"""`publish(topic, payload, confirm)`: hands a message to the link; `confirm` is called once the broker has answered."""


class _Message(NamedTuple):
    """What stands next to be published."""

    packet: Packet
    size_bytes: int
    rest: Packet | None = None
    """What waited of its frame when it was taken."""
    row_id: int | None = None
    """Of a promised frame, its place in the spool."""


class Publisher:
    """Publisher of one stream: hands over at once what there is room for, and the rest in a thread of its own (`run`).

    `lock` guards all of it, and frame slot and references with it; `changed` is notified when something was confirmed
    or acknowledged. `publish` may raise LinkError, then the layer is tried again, or PacketError, then it is dropped.
    `limit_bytes()` is the largest message that the broker takes, None if it has not said. `on_stuck(reason)` is called
    when the broker confirms nothing any more. `clock` gives monotonic seconds; without
    threads, `step` does one round of `run`. Thread-safe.
    """

    def __init__(
        self,
        *,
        epoch: int,
        topics: Topics,
        control: LinkControl,
        publish: Publish,
        on_event: Callable[[SenderEvent], None],
        redelivery: Redelivery | None,
        seal: Seal | None,
        ack_timeout_s: float,
        on_stuck: Callable[[str], None],
        stop: threading.Event,
        limit_bytes: Callable[[], int | None] = lambda: None,
        measure_rtt: Callable[[Callable[[float], None]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._work = threading.Condition(self.lock)  # waking a thread costs more than a message: only where it must be
        self._publishing = False
        self.counters = Counters()
        self.in_flight = InFlight(epoch)
        self.separate_layers_until_s = float("-inf")
        """Until then each layer goes in a message of its own, however fast our link: some receiver's is slower."""
        self._topics = topics
        self._control = control
        self._publish = publish
        self._on_event = on_event
        self._redelivery = redelivery
        self._seal = seal
        self._ack_timeout_s = ack_timeout_s
        self._on_stuck = on_stuck
        self._limit_bytes, self._measure_rtt = limit_bytes, measure_rtt
        self._limited_log = RateLimitedLog(log)
        self._stop = stop
        self._clock = clock
        self._up = False
        self._waiting: Packet | None = None
        """The layers of the newest frame that are still to go."""

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._up

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self._waiting is None and not self.in_flight

    @property
    def base_waits(self) -> bool:
        """Whether the frame that waits has not even begun to go."""
        return self._waiting is not None and self._waiting.first_layer == 0

    @property
    def around_bytes(self) -> int:
        """What a message has besides its packet."""
        return len(self._topics.layer(0)) + _MQTT_BYTES + (TAG_BYTES if self._seal is not None else 0)

    @property
    def around_frame_bytes(self) -> int:
        """What the messages of a frame have, all together, besides the packet that they were split from."""
        return MAX_LAYERS * self.around_bytes + (MAX_LAYERS - 1) * HEADER_BYTES

    def connected(self, rtt_s: float | None) -> None:
        """There is a new connection: whatever was in flight is gone with the old one."""
        with self.changed:
            self._up = True
            self.counters.connections += 1
            now_s = self._clock()
            self.in_flight.begin(now_s)
            self._control.connected(now_s, rtt_s)
            if self._redelivery is not None:
                self._redelivery.reconnected()
            self.changed.notify_all()
            self._work.notify()
        self._on_event(Connected(rtt_s))

    def disconnected(self) -> None:
        """The connection is gone, and what waits would be stale when there is another."""
        with self.changed:
            self._up = False
            self._drop()
        self._on_event(Disconnected())

    def budget_bytes(self, ready_in_s: float) -> int | None:
        """What the next frame's messages may have, or None: not now. Under the lock."""
        if not self._up:
            return None
        budget_bytes = self._control.budget_bytes(self._clock(), ready_in_s=ready_in_s)
        return None if budget_bytes is None else self.most_bytes(budget_bytes)

    def most_bytes(self, budget_bytes: int) -> int:
        """A frame's budget, or less, if the broker takes no message as large."""
        limit_bytes = self._limit_bytes()
        return budget_bytes if limit_bytes is None else max(1, min(budget_bytes, limit_bytes))

    def put(self, packet: Packet) -> None:
        """Have a frame published, in place of the one that waits: the newest wins."""
        with self.lock:
            if not self._up:
                return
            self._drop()
            self._waiting = packet
            message = self._take(redeliver=False)
        while message is not None and self._publish_one(message):
            with self.lock:
                message = self._take(redeliver=False)
        self.wake()

    def wake(self) -> None:
        """Have the publishing thread look: there is a promised frame, a layer that waits for room, or an end."""
        with self.lock:
            self._work.notify()

    def acknowledged(self, ack: Ack) -> None:
        """A receiver has a message."""
        self._confirmed((ack.epoch, ack.frame, ack.layer))  # the broker's own answer may still be on its way
        with self.changed:
            known = self.in_flight.acknowledge(ack)
            if self._redelivery is not None:
                self._redelivery.acknowledged(ack, self._clock())
            if known is not None:
                self.counters.acknowledged += 1
            self.changed.notify_all()
            if self._promised:
                self._work.notify()
        if known is not None:
            captured_ms, layers = known
            delay_s = round(elapsed_s(captured_ms, ack.received_ms), 3)
            self._on_event(LayersAcknowledged(ack.frame, ack.layer, layers, delay_s, ack.kept))

    def run(self) -> None:
        """Publish until the stop, whenever the control has room: base layers first, then promised frames, then the
        rest."""
        while not self._stop.is_set():
            self.step(wait=True)

    def step(self, *, wait: bool = False) -> bool:
        """Publish one message that there is room for; False if none was published. `wait`: then wait for work."""
        if self._redelivery is not None:
            for epoch, frame in self._redelivery.settle():
                self._on_event(PromiseKept(epoch, frame))
            for rejected in self._redelivery.take_rejected():
                self._on_event(PromiseRejected(rejected.row_id, rejected.reason))
        with self.lock:
            stuck = ""
            measure = self._measure_rtt if self._up and self._measure_rtt is not None else None
            if measure is not None and not self._control.wants_rtt(self._clock()):
                measure = None
            if self._up:
                if self._control.progressed():
                    self.in_flight.progress(self._clock())
                limit_s, rate_bps = self._ack_timeout_s, self._rate_bps
                stuck = self.in_flight.stuck(self._clock(), ack_timeout_s=limit_s, rate_bps=rate_bps)
            message = None if stuck else self._take()
            if message is None and not stuck and wait:
                expects = self._up and (self.in_flight or self._promised)
                self._work.wait(ROOM_S if self._waiting and self._up else LOOK_UP_S if expects else IDLE_S)
        if measure is not None:
            measure(self._rtt_measured)
        if stuck:
            self._on_stuck(stuck)
        if message is None:
            return False
        published = self._publish_one(message)
        if not published and wait:
            with self.lock:
                self._work.wait(LOOK_UP_S)
        return published

    def _rtt_measured(self, rtt_s: float) -> None:
        with self.changed:
            self._control.rtt_measured(self._clock(), rtt_s)
            self.changed.notify_all()

    def _drop(self) -> None:
        rest, self._waiting = self._waiting, None
        if rest is not None:
            self.counters.dropped_layers += len(rest.chunks)
            self._on_event(LayersDropped(rest.frame, rest.first_layer, len(rest.chunks)))

    @property
    def _promised(self) -> bool:
        """Whether promised frames wait."""
        return self._redelivery is not None and self._redelivery.waiting > 0

    @property
    def _rate_bps(self) -> float:
        """What the link bears; 0 if that is not known."""
        return self._control.state().get("capacity_bps") or 0.0

    def _take(self, *, redeliver: bool = True) -> _Message | None:
        """What may be published now; it counts as in flight from here on. Under the lock."""
        if not self._up or self._publishing:
            return None
        now_s = self._clock()
        base = self.base_waits
        due = self._due(now_s) if redeliver and not base else None
        if due is not None:
            message = _Message(due.packet, self.around_bytes + due.packet.size_bytes, row_id=due.row_id)
        elif (rest := self._waiting) is not None:
            separate = now_s < self.separate_layers_until_s
            part = next_part(rest, rate_bps=self._rate_bps, around_bytes=self.around_bytes, separate=separate)
            message = _Message(part, self.around_bytes + part.size_bytes, rest=rest)
        else:
            return None
        if not self._control.room(now_s, size_bytes=message.size_bytes, base=base):
            return None
        self.in_flight.add(message.packet, message.size_bytes, now_s)
        self._control.sent(now_s, size_bytes=message.size_bytes, base=base)
        if message.row_id is not None and self._redelivery is not None:
            self._redelivery.sent(message.row_id, now_s)
        self._publishing = True
        return message

    def _due(self, now_s: float) -> DueFrame | None:
        """The promised frame to send now; one that is still on its way is not sent again."""
        if self._redelivery is None:
            return None
        while (due := self._redelivery.next(now_s)) is not None and message_key(due.packet) in self.in_flight:
            self._redelivery.postpone(due.row_id, now_s)
        return due

    def _publish_one(self, message: _Message) -> bool:
        """Publish what `_take` has given; False if it must be tried again."""
        part, key = message.packet, message_key(message.packet)
        data = part.to_bytes()
        if self._seal is not None:
            data = self._seal.seal(data)
        gone = sent = False
        try:
            self._publish(self._topics.layer(part.first_layer), data, lambda refused="": self._confirmed(key, refused))
            gone = sent = True
        except LinkError as error:
            log.info("frame %d layer %d waits: %s", part.frame, part.first_layer, error)
        except PacketError as error:
            self._tell_refused(key, str(error))
            gone = True
        if sent:
            self._on_event(LayersSent(part.frame, part.first_layer, len(part.chunks), part.size_bytes))
        with self.lock:
            self._publishing = False
            if sent:
                self.counters.sent_bytes += message.size_bytes
            else:
                if self.in_flight.give_up(key):
                    self._control.lost(self._clock(), size_bytes=message.size_bytes)
                if message.row_id is not None and self._redelivery is not None:
                    if gone:
                        self._redelivery.refused(message.row_id, "it is larger than the broker takes", self._clock())
                    else:
                        self._redelivery.postpone(message.row_id, self._clock(), LOOK_UP_S)
            if gone and message.rest is not None and self._waiting is message.rest:  # else a newer frame is there
                self._waiting = after(message.rest, len(part.chunks))
                self.changed.notify_all()
        return gone

    def _confirmed(self, key: MessageKey, refused: str = "") -> None:
        """The broker has this message, or refuses it."""
        now_s = self._clock()
        if refused:
            self._tell_refused(key, refused)
        with self.changed:
            message = self.in_flight.confirm(key, now_s)
            if refused and self._redelivery is not None:
                row_id = self._redelivery.row_of(key[0], key[1])
                if row_id is not None:
                    self._redelivery.refused(row_id, f"the broker refuses it: {refused}", now_s)
            if message is None:
                return
            if refused:  # it says nothing of the link
                self.in_flight.unacknowledged.discard(key)
                self._control.lost(now_s, size_bytes=message.size_bytes)
            else:
                self._control.acked(now_s, size_bytes=message.size_bytes, sent_s=message.sent_s)
            self.changed.notify_all()
            if self._waiting or self._promised:
                self._work.notify()

    def _tell_refused(self, key: MessageKey, reason: str) -> None:
        """Count, log and report a message that the broker does not take."""
        _, frame, layer = key
        topic = self._topics.layer(layer)
        self.counters.refused += 1
        self._limited_log.warn("the broker does not take frame %d on %s: %s", frame, topic, reason)
        self._on_event(MessageRefused(frame, layer, topic, reason))
