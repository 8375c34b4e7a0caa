"""What is on its way: one frame that waits, the messages that the broker has not confirmed, and the promised frames.

A frame's layers go out while the control has room: the base layer first, those above it as many in one message as the
link takes in a short time, and all in one where it takes them in a moment. The next frame takes the place of what still
waits, so nothing stale stands here, and the MQTT client never holds more than the control's window.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from edgesem.errors import LinkError, PacketError
from edgesem.packet.packet import HEADER_BYTES, MAX_LAYERS, Packet
from edgesem.packet.seal import TAG_BYTES, Seal
from runtime.congestion.interface import LinkControl
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.protocol.topics import Topics
from runtime.sender.counters import Counters
from runtime.sender.packetizer import after, next_part
from runtime.sender.redelivery import Redelivery

log = logging.getLogger(__name__)

LOOK_UP_S = 0.05
"""How often a thread that waits looks again."""
ROOM_S = 0.01
"""How often it does where there is something to send: nobody tells when the kernel's queue has shrunk."""
IDLE_S = 0.5

_MQTT_BYTES = 8  # of a PUBLISH besides topic and payload: fixed header, topic length, packet id, properties
_REMEMBERED = 1024
_LONGEST_PATIENCE_S = 60.0

Publish = Callable[[str, bytes, Callable[[], None]], None]
_Key = tuple[int, int, int]  # epoch, frame, layer


class _UnderWay(NamedTuple):
    """A published message that the broker has not confirmed."""

    size_bytes: int
    sent_s: float


class _Message(NamedTuple):
    """What stands next to be published."""

    packet: Packet
    size_bytes: int
    of: Packet | None = None
    """What of its frame waited when it was taken."""
    row_id: int | None = None
    """Of a promised frame, its place in the spool."""


class Publisher:
    """Publishes and keeps account: at once what there is room for, the rest in a thread of its own (`run`).

    `lock` guards all of it; `changed` is notified when something was confirmed or acknowledged.

    `publish(topic, payload, confirm)` may raise LinkError, then the layer is tried again, or PacketError, then it is
    dropped. `stuck` is called when the broker confirms nothing any more.
    """

    def __init__(
        self,
        *,
        epoch: int,
        topics: Topics,
        control: LinkControl,
        publish: Publish,
        tell: Callable[..., None],
        promises: Redelivery | None,
        seal: Seal | None,
        ack_timeout_s: float,
        stuck: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._work = threading.Condition(self.lock)  # waking a thread costs more than a message: only where it must be
        self._publishing = False
        self.counters = Counters()
        self.unheard: set[_Key] = set()
        """What no receiver has acknowledged yet, of what was published lately."""
        self.apart_until_s = 0.0
        """Until then each layer goes in a message of its own, however fast our link: somebody's is slower."""
        self._epoch = epoch
        self._topics = topics
        self._control = control
        self._publish = publish
        self._tell = tell
        self._promises = promises
        self._seal = seal
        self._ack_timeout_s = ack_timeout_s
        self._stuck = stuck
        self._stop = stop
        self._up = False
        self._waiting: Packet | None = None
        """The layers of the newest frame that are still to go."""
        self._under_way: dict[_Key, _UnderWay] = {}
        self._confirmed_s = 0.0
        self._lately: OrderedDict[_Key, tuple[int, int]] = OrderedDict()
        """Capture time (ms) and number of layers of what was published lately."""
        self._newest_frame = 0
        self._newest_ms: int | None = None

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._up

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._waiting is None and not self._under_way

    @property
    def base_waits(self) -> bool:
        """Whether the frame that waits has not even begun to go."""
        return self._waiting is not None and self._waiting.first_layer == 0

    @property
    def age_s(self) -> float | None:
        """Seconds since the capture of the newest frame that a receiver has."""
        return None if self._newest_ms is None else max(0.0, elapsed_s(self._newest_ms, clock_ms()))

    @property
    def around_bytes(self) -> int:
        """What a message has besides its packet."""
        return len(self._topics.layer(0)) + _MQTT_BYTES + (TAG_BYTES if self._seal is not None else 0)

    @property
    def around_frame_bytes(self) -> int:
        """What the messages of a frame have, all together, besides the packet that they were split from."""
        return MAX_LAYERS * self.around_bytes + (MAX_LAYERS - 1) * HEADER_BYTES

    def connected(self, rtt_s: float | None) -> None:
        """There is a new connection: whatever was under way is gone with the old one."""
        with self.changed:
            self._up = True
            self.counters.connections += 1
            self._under_way.clear()
            self._confirmed_s = time.monotonic()
            self._control.connected(self._confirmed_s, rtt_s)
            if self._promises is not None:
                self._promises.begin_anew()
            self.changed.notify_all()
            self._work.notify()
        self._tell(event="connected", rtt_s=rtt_s)

    def disconnected(self) -> None:
        """The connection is gone, and what waits would be stale when there is another."""
        with self.changed:
            self._up = False
            self._drop()
        self._tell(event="disconnected")

    def budget_bytes(self, ready_in_s: float) -> int | None:
        """What the next frame's messages may have, or None: not now. Under the lock."""
        if not self._up:
            return None
        return self._control.budget_bytes(time.monotonic(), ready_in_s=ready_in_s)

    def put(self, packet: Packet) -> None:
        """Have a frame published, in place of the one that waits: the newest wins."""
        with self.lock:
            if not self._up:
                return
            self._drop()
            self._waiting = packet
            message = self._take(promises=False)
        while message is not None and self._publish_one(message):
            with self.lock:
                message = self._take(promises=False)
        self.wake()

    def wake(self) -> None:
        """Have the publishing thread look: there is a promise, a layer that waits for room, or an end."""
        with self.lock:
            self._work.notify()

    def heard(self, ack: Ack) -> None:
        """A receiver has a message."""
        key = (ack.epoch, ack.frame, ack.layer)
        self._confirmed(key)  # whoever is first: the broker's own answer may still be on its way
        with self.changed:
            captured_ms, layers = self._lately.get(key, (None, 0))
            self.unheard.discard(key)
            if self._promises is not None:
                self._promises.heard(ack)
            if captured_ms is not None:
                self.counters.acknowledged += 1
                # By number, because the clock may have been set back; a promised frame of an earlier start is old.
                if ack.epoch == self._epoch and ack.frame >= self._newest_frame:
                    self._newest_frame, self._newest_ms = ack.frame, captured_ms
            self.changed.notify_all()
            if ack.kept:
                self._work.notify()
        if captured_ms is not None:
            delay_s = round(elapsed_s(captured_ms, ack.received_ms), 3)
            self._tell(event="acked", frame=ack.frame, layer=ack.layer, layers=layers, delay_s=delay_s, kept=ack.kept)

    def run(self) -> None:
        """Publish what waits, whenever the control has room: a base layer first, then promises, then the rest."""
        while not self._stop.is_set():
            if self._promises is not None:
                for epoch, frame in self._promises.settle():
                    self._tell(event="kept", epoch=epoch, frame=frame)
            with self.lock:
                stuck = self._look_for_stuck()
                message = None if stuck else self._take()
                if message is None and not stuck:
                    waits = self._up and (self._under_way or self._promised)
                    self._work.wait(ROOM_S if self._waiting and self._up else LOOK_UP_S if waits else IDLE_S)
            if stuck:
                self._stuck(stuck)
            elif message is not None and not self._publish_one(message):
                with self.lock:
                    self._work.wait(LOOK_UP_S)

    def _drop(self) -> None:
        rest, self._waiting = self._waiting, None
        if rest is not None:
            self.counters.dropped_layers += len(rest.chunks)
            self._tell(event="dropped", frame=rest.frame, first_layer=rest.first_layer, layers=len(rest.chunks))

    @property
    def _promised(self) -> bool:
        """Whether promised frames wait."""
        return self._promises is not None and self._promises.waiting > 0

    def _take(self, *, promises: bool = True) -> _Message | None:
        """What may be published now; it counts as under way from here on. Under the lock."""
        if not self._up or self._publishing:
            return None
        now_s = time.monotonic()
        base = self.base_waits
        due = self._promises.next(now_s) if self._promises is not None and promises and not base else None
        if due is not None:
            message = _Message(due.packet, self.around_bytes + due.packet.size_bytes, row_id=due.row_id)
        elif (rest := self._waiting) is not None:
            rate_bps = self._control.state().get("capacity_bps") or 0.0
            apart = now_s < self.apart_until_s
            part = next_part(rest, rate_bps=rate_bps, around_bytes=self.around_bytes, apart=apart)
            message = _Message(part, self.around_bytes + part.size_bytes, of=rest)
        else:
            return None
        if not self._control.room(now_s, size_bytes=message.size_bytes, base=base):
            return None
        # Noted before it is published: its acknowledgement may be here before we are.
        key = _key(message.packet)
        self._under_way[key] = _UnderWay(message.size_bytes, now_s)
        if len(self.unheard) >= _REMEMBERED:
            self.unheard.clear()
        self.unheard.add(key)
        self._lately[key] = message.packet.time_ms, len(message.packet.chunks)
        if len(self._lately) > _REMEMBERED:
            self._lately.popitem(last=False)
        self._control.sent(now_s, size_bytes=message.size_bytes, base=base)
        if message.row_id is not None and self._promises is not None:
            self._promises.sent(message.row_id, now_s)
        self._publishing = True
        return message

    def _publish_one(self, message: _Message) -> bool:
        """Publish what `_take` has given; False if it must be tried again."""
        part, key = message.packet, _key(message.packet)
        data = part.to_bytes()
        if self._seal is not None:
            data = self._seal.seal(data)
        gone = sent = False
        try:
            self._publish(self._topics.layer(part.first_layer), data, lambda: self._confirmed(key))
            gone = sent = True
        except LinkError as error:
            log.info("frame %d layer %d waits: %s", part.frame, part.first_layer, error)
        except PacketError as error:
            log.warning("frame %d layer %d is not sent: %s", part.frame, part.first_layer, error)
            gone = True
        if sent:
            about = {"layer": part.first_layer, "layers": len(part.chunks), "size_bytes": part.size_bytes}
            self._tell(event="sent", frame=part.frame, **about)
        with self.lock:
            self._publishing = False
            if sent:
                self.counters.sent_bytes += message.size_bytes
            elif self._under_way.pop(key, None) is not None:
                self.unheard.discard(key)
                self._control.lost(time.monotonic(), size_bytes=message.size_bytes)
            if gone and message.of is not None and self._waiting is message.of:  # else a newer frame is there
                self._waiting = after(message.of, len(part.chunks))
                self.changed.notify_all()
        return gone

    def _confirmed(self, key: _Key) -> None:
        """The broker has this message."""
        now_s = time.monotonic()
        with self.changed:
            message = self._under_way.pop(key, None)
            if message is None:
                return
            self._confirmed_s = now_s
            self._control.acked(now_s, size_bytes=message.size_bytes, sent_s=message.sent_s)
            self.changed.notify_all()
            if self._waiting or self._promised:
                self._work.notify()

    def _look_for_stuck(self) -> str:
        """Why the connection must be made anew: messages are under way, and nothing is confirmed any more."""
        if not self._under_way or not self._up:
            return ""
        since_s = max(self._confirmed_s, min(message.sent_s for message in self._under_way.values()))
        # A large message on a slow link takes its time.
        rate_bps = self._control.state().get("capacity_bps") or 0
        size_bytes = sum(message.size_bytes for message in self._under_way.values())
        patience_s = self._ack_timeout_s + (min(_LONGEST_PATIENCE_S, 4 * 8 * size_bytes / rate_bps) if rate_bps else 0)
        if time.monotonic() - since_s < patience_s:
            return ""
        self._confirmed_s = time.monotonic()
        return f"nothing was confirmed for {patience_s:.0f} s"


def _key(packet: Packet) -> _Key:
    return packet.epoch, packet.frame, packet.first_layer
