"""Publisher of one stream: hands the layers of the newest frame, and promised frames, to the link as it has room.

A frame's layers go out while the control has room: the base layer first, those above it as many in one message as the
link takes in a short time, and all in one where it takes them in a moment or the frame is small. The next frame takes
the place of what still waits, so nothing stale stands here, and the MQTT client never holds more than the control's
window.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edgesem.errors import LinkError, PacketError
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
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
    SenderEvent,
)
from runtime.sender.frame_limits import FrameLimits
from runtime.sender.in_flight import InFlight, MessageKey
from runtime.sender.layer_outlet import LayerOutlet
from runtime.sender.link_watch import LinkWatch, MeasureRtt
from runtime.sender.message_format import MessageFormat
from runtime.sender.outgoing import Outgoing, Publish
from runtime.sender.promised_outlet import PromisedOutlet
from runtime.sender.redelivery import Redelivery
from runtime.sender.size_limits import SizeLimits

log = logging.getLogger(__name__)

LOOK_UP_S = 0.05
"""How often a thread that waits looks again."""
ROOM_S = 0.01
"""How often it does where there is something to send: nobody tells when the kernel's queue has shrunk."""
IDLE_S = 2.0
"""How often it does where there is nothing: whoever brings something wakes it."""


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
        measure_rtt: MeasureRtt | None = None,
        frame_limits: FrameLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._work = threading.Condition(self.lock)  # waking a thread costs more than a message: only where it must be
        self._publishing = False
        self.counters = Counters()
        self.in_flight = InFlight(epoch)
        self.format = MessageFormat(topics, seal)
        self.layers = LayerOutlet(self.format)
        self.sizes = SizeLimits(control, limit_bytes)
        self.frame_limits = frame_limits or FrameLimits()
        self._control = control
        self._publish = publish
        self._on_event = on_event
        self._promised = None if redelivery is None else PromisedOutlet(redelivery, self.format, self.sizes)
        self._watch = LinkWatch(
            control=control,
            in_flight=self.in_flight,
            ack_timeout_s=ack_timeout_s,
            on_stuck=on_stuck,
            measure_rtt=measure_rtt,
        )
        self._limited_log = RateLimitedLog(log)
        self._stop = stop
        self._clock = clock
        self._up = False

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._up

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self.layers.waits and not self.in_flight

    def connected(self, rtt_s: float | None) -> None:
        """There is a new connection: whatever was in flight is gone with the old one."""
        with self.changed:
            self._up = True
            self.counters.connections += 1
            now_s = self._clock()
            self.in_flight.begin(now_s)
            self._control.connected(now_s, rtt_s)
            if self._promised is not None:
                self._promised.reconnected(rtt_s)
            self.changed.notify_all()
            self._work.notify()
        self._on_event(Connected(rtt_s))

    def disconnected(self) -> None:
        """The connection is gone, and what waits would be stale when there is another."""
        with self.changed:
            self._up = False
            self._put(None)
        self._on_event(Disconnected())

    def budget_bytes(self, ready_in_s: float) -> int | None:
        """What the next frame's messages may have, or None: not now. Under the lock."""
        now_s = self._clock()
        most_bytes = self.frame_limits.frame_bytes(now_s, self._control.interval_s) if self._up else None
        budget_bytes = None if most_bytes is None else self.sizes.frame_bytes(now_s, ready_in_s)
        return None if most_bytes is None or budget_bytes is None else min(budget_bytes, most_bytes)

    def around_frame_bytes(self, budget_bytes: int) -> int:
        """What the messages of a frame have besides its packet, if all of them together have at most this budget."""
        with self.lock:
            whole_bytes = self.layers.whole_bytes(self._clock(), rate_bps=self.sizes.rate_bps)
        # Somewhat above what goes whole, the largest frame that does has more picture than one with room for four
        # messages: then the rest of the budget stays unused.
        return min(self.format.around_bytes + max(0, budget_bytes - whole_bytes), self.format.around_frame_bytes)

    def put(self, packet: Packet) -> None:
        """Have a frame published, in place of the one that waits: the newest wins."""
        with self.lock:
            if not self._up:
                return
            self._put(packet)
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
            if self._promised is not None:
                self._promised.acknowledged(ack, self._clock())
            if known is not None:
                self.counters.acknowledged += 1
            self.changed.notify_all()
            if self._promise_waits:
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
        if self._promised is not None:
            for event in self._promised.settle():
                self._on_event(event)
        with self.lock:
            look = self._watch.look(self._clock(), self._rtt_measured) if self._up else None
            message = self._take() if look is None else None
            if look is None and message is None and wait:
                expects = self._up and (self.in_flight or self._promise_waits)
                self._work.wait(ROOM_S if self.layers.waits and self._up else LOOK_UP_S if expects else IDLE_S)
        if look is not None:
            look()
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

    def _put(self, packet: Packet | None) -> None:
        """Have a frame, or none, in place of the one that waits."""
        if (rest := self.layers.put(packet)) is not None:
            self.counters.dropped_layers += len(rest.chunks)
            self._on_event(LayersDropped(rest.frame, rest.first_layer, len(rest.chunks)))

    @property
    def _promise_waits(self) -> bool:
        """Whether promised frames wait."""
        return self._promised is not None and self._promised.waits

    def _take(self, *, redeliver: bool = True) -> Outgoing | None:
        """What may be published now; it counts as in flight from here on. Under the lock."""
        if not self._up or self._publishing:
            return None
        now_s = self._clock()
        base = self.layers.base_waits
        message = None
        if self._promised is not None and redeliver and not base:
            message = self._promised.next(now_s, self.in_flight)
        message = message or self.layers.next(now_s, rate_bps=self.sizes.rate_bps)
        if message is None or not self._control.room(now_s, size_bytes=message.size_bytes, base=base):
            return None
        self.in_flight.add(message.packet, message.size_bytes, now_s, piece=message.number)
        self._control.sent(now_s, size_bytes=message.size_bytes, base=base)
        if message.rest is not None:
            self.frame_limits.sent(now_s, message.size_bytes)
        if self._promised is not None:
            self._promised.sent(message, now_s)
        self._publishing = True
        return message

    def _publish_one(self, message: Outgoing) -> bool:
        """Publish what `_take` has given; False if it must be tried again."""
        packet, key = message.packet, message.key
        gone, sent, topic = False, False, ""
        try:
            topic, payload = message.encode(self.format)
            self._publish(topic, payload, lambda refused="": self._confirmed(key, refused, topic))
            gone = sent = True
        except LinkError as error:
            log.info("frame %d layer %d waits: %s", packet.frame, packet.first_layer, error)
        except PacketError as error:
            self._tell_refused(key, topic, str(error))
            gone = True
        else:
            if message.is_last:
                self._on_event(LayersSent(packet.frame, packet.first_layer, len(packet.chunks), packet.size_bytes))
        finally:  # also of a defect, which ends one thread: the other must not wait for it
            self._account(message, sent=sent, gone=gone)
        return gone

    def _account(self, message: Outgoing, *, sent: bool, gone: bool) -> None:
        """A message was published, or not; `gone`: it is not tried again as it is."""
        with self.lock:
            self._publishing = False
            if sent:
                self.counters.sent_bytes += message.size_bytes
                self.counters.pieces += message.piece is not None
            else:
                if self.in_flight.give_up(message.key):
                    self._control.lost(self._clock(), size_bytes=message.size_bytes)
                if self._promised is not None:
                    self._promised.failed(message, self._clock(), again_s=None if gone else LOOK_UP_S)
            if gone and self.layers.gone(message):
                self.changed.notify_all()

    def _confirmed(self, key: MessageKey, refused: str = "", topic: str = "") -> None:
        """The broker has this message, or refuses it."""
        if refused:
            self._tell_refused(key, topic, refused)
        with self.changed:
            now_s = self._clock()  # not before: another thread may send it again meanwhile, and that would be later
            message = self.in_flight.confirm(key, now_s)
            if self._promised is not None and refused:
                self._promised.refused(key, refused, now_s)
            elif self._promised is not None:
                self._promised.confirmed(key)
            if message is None:
                return
            if refused:  # it says nothing of the link
                self.in_flight.unacknowledged.discard(key)
                self._control.lost(now_s, size_bytes=message.size_bytes)
            else:
                self._control.acked(now_s, size_bytes=message.size_bytes, sent_s=message.sent_s)
            self.changed.notify_all()
            if self.layers.waits or self._promise_waits:
                self._work.notify()

    def _tell_refused(self, key: MessageKey, topic: str, reason: str) -> None:
        """Count, log and report a message that the broker does not take."""
        _, frame, layer = key
        self.counters.refused += 1
        self._limited_log.warn("the broker does not take frame %d on %s: %s", frame, topic, reason)
        self._on_event(MessageRefused(frame, layer, topic, reason))
