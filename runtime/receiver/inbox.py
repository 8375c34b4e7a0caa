"""The messages of one stream, checked, acknowledged and put together: frames that wait to be decoded, newest first.

Nothing here raises because of what came from outside: a bad message costs a counter and, now and then, a log line.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE, Packet
from edgesem.packet.replay import Replay
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.protocol.topics import Topics
from runtime.receiver.reassembly import Reassembly

_MOST_PROMISED = 64  # that wait for a decoder; more are on the disk all the same
FULLER_S = 1.0
"""For so long a picture with more layers is worth more than a base layer alone that is newer."""

Kept = Callable[[bool, bool], None]
"""Is told whether a promised frame is safe on our disk now, and whether it was not there before."""
Keep = Callable[[Packet, Kept], None]


@dataclass
class Counters:
    """What came, since the start."""

    layers: int = 0
    """Layers that were taken; a message has one or more."""
    size_bytes: int = 0
    malformed: int = 0
    """Messages that were no packet, not for their topic or our bundle, or larger than we decode."""
    unsealed: int = 0
    """Packets that the stream's key did not open, or that came before the birth that says how to open them."""
    repeated: int = 0
    """Layers that had come before: acknowledged again, shown once."""
    undecodable: int = 0
    """Frames whose packets were well-formed, but not what is in them."""
    missing_reference: int = 0
    """Frames that refer to an earlier one that is not here; their sender was asked for a keyframe."""
    dropped: int = 0
    """Frames given up because a newer one came before a decoder was free."""
    base_alone: int = 0
    """Frames of which only the base layer came, and that too soon after a fuller one to take its place."""
    kept: int = 0
    """Promised frames that are on our disk."""
    not_kept: int = 0
    """Promised frames that the disk did not take; their sender keeps them and sends them again."""

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Inbox:
    """Takes the messages of one stream and has its frames. Not thread-safe but for `acknowledge` and `keep`.

    Each message is acknowledged at once. A promised frame is given to `keep`, and acknowledged as kept when that calls
    back that it is; without `keep` it is acknowledged as seen, so that its sender goes on keeping it for somebody else.
    At most `backlog` ordinary frames wait; when one more comes, the oldest is given up. A base layer alone, all that
    came of its frame, does not wait if a frame with more layers that is less than a second older did.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        bundle_id: int,
        acknowledge: Callable[[Ack], None],
        keep: Keep | None = None,
        sealed: bool = False,
        layers: int = MAX_LAYERS,
        backlog: int = 2,
        max_pixels: int = MAX_SIDE * MAX_SIDE,
        limited_log: RateLimitedLog | None = None,
    ) -> None:
        self.counters = Counters()
        self.decode_ms = 0
        """What the latest picture took; senders are told with each acknowledgement."""
        self.seal: Seal | None = None
        """What opened the last packet."""
        self.more_than_asked = False
        """Whether the latest message had more layers than are wanted here."""
        self._offered: Seal | None = None
        self._topics, self._bundle_id, self._acknowledge, self._keep = topics, bundle_id, acknowledge, keep
        self._sealed, self._max_pixels, self._backlog = sealed, max_pixels, backlog
        self._layers = layers
        self._reassembly = Reassembly(layers)
        self._replay = Replay()
        self._waiting: deque[Packet] = deque()
        self._promised: deque[Packet] = deque()
        self._promised_next = False
        self._fuller_ms: int | None = None
        """When the latest frame with more than a base layer was captured."""
        self._limited_log = limited_log or RateLimitedLog(logging.getLogger(__name__))

    def take(self, topic: str, payload: bytes) -> bool:
        """Take one message of a `pkt` topic; whether it was good."""
        received_ms = clock_ms()
        try:
            packet = self._parse(topic, payload)
            finished = [] if packet.promised else self._add(packet)
        except PacketError as error:
            self.counters.malformed += 1
            self._limited_log.warn("dropped a message on %s: %s", topic, error)
            return False
        self.counters.layers += len(packet.chunks)
        self.counters.size_bytes += len(payload)
        self.more_than_asked = not packet.promised and packet.first_layer + len(packet.chunks) > self._layers
        ack = Ack(packet.epoch, packet.frame, packet.first_layer, received_ms, self.decode_ms)
        if not packet.promised:
            for whole in finished:
                self._enqueue(whole)
            self._acknowledge(ack)
        elif self._keep is None:
            self._acknowledge(ack)
            if self._is_new(packet):
                self._enqueue_promised(packet)
        else:
            self._keep(packet, lambda safe, new: self._settle(packet, ack, safe, new))
        return True

    def offer(self, seal: Seal) -> None:
        """A birth says that packets open with `seal` from now on; believed once one does."""
        self._offered = seal

    def flush(self) -> None:
        """No more messages will come: finish the frame under way as far as it is here."""
        for packet in self._reassembly.flush():
            self._enqueue(packet)

    def look(self, now_s: float, patience_s: float) -> float | None:
        """Let a frame wait for a decoder whose last layer came `patience_s` ago; more of its layers may follow.

        Returns when to look again, None if nothing is under way.
        """
        due_s = self._reassembly.due_s(patience_s)
        if due_s is not None and due_s <= now_s:
            for packet in self._reassembly.early():
                self._enqueue(packet)
            return None
        return due_s

    @property
    def waiting(self) -> int:
        """How many frames wait for a decoder."""
        return len(self._waiting) + len(self._promised)

    def pop(self) -> Packet | None:
        """The frame to decode next: what is new and what was promised take turns."""
        first, second = self._waiting, self._promised
        if self._promised_next:
            first, second = second, first
        queue = first or second
        if not queue:
            return None
        self._promised_next = queue is self._waiting
        return queue.popleft()

    def recover(self, packet: Packet) -> None:
        """Let a promised frame wait that is on our disk since an earlier run."""
        self._enqueue_promised(packet)

    def _parse(self, topic: str, payload: bytes) -> Packet:
        packet = Packet.from_bytes(self._unsealed(payload) if self._sealed else payload)
        if topic != self._topics.layer(packet.first_layer) or (packet.promised and packet.first_layer):
            raise PacketError(
                f"carries {len(packet.chunks)} layers from {packet.first_layer} on, does not match its topic"
            )
        # A promise from before its sender got another bundle is kept all the same, for `edgesem decode` with that one.
        if packet.bundle_id != self._bundle_id and not (packet.promised and self._keep is not None):
            raise PacketError(f"made with bundle {packet.bundle_id:04x}, this receiver has {self._bundle_id:04x}")
        if packet.width * packet.height > self._max_pixels:
            raise PacketError(
                f"{packet.width}x{packet.height} pixels, more than the {self._max_pixels} that may be decoded here: "
                "raise --max-pixels if you trust the sender"
            )
        return packet

    def _unsealed(self, payload: bytes) -> bytes:
        """The packet in a sealed one."""
        trouble = PacketError("the stream's birth, which says how to open its packets, has not come")
        # Anybody can publish a birth: the seal that works stays until the new one has opened something.
        for seal in (self.seal, self._offered):
            try:
                opened = seal.open(payload) if seal is not None else None
            except PacketError as error:
                trouble = error
                continue
            if opened is not None:
                self.seal = seal
                return opened
        self.counters.unsealed += 1
        raise trouble

    def _add(self, packet: Packet) -> list[Packet]:
        self._reassembly.check(packet)  # before it counts as seen: a stray layer must not stand in the real one's way
        return self._reassembly.add(packet) if self._is_new(packet) else []

    def _is_new(self, packet: Packet) -> bool:
        fresh = self._replay.fresh(packet)
        self.counters.repeated += not fresh
        return fresh

    def _settle(self, packet: Packet, ack: Ack, safe: bool, new: bool) -> None:
        """The disk has answered."""
        if not safe:
            self.counters.not_kept += 1
            return
        self._acknowledge(replace(ack, kept=1))
        if new:
            self.counters.kept += 1
            if packet.bundle_id == self._bundle_id:
                self._enqueue_promised(packet)
        else:
            self.counters.repeated += 1

    def _enqueue(self, packet: Packet) -> None:
        if len(packet.chunks) > 1:
            self._fuller_ms = packet.time_ms
        elif self._is_poorer(packet):
            self.counters.base_alone += 1
            return
        if self._waiting and (self._waiting[-1].epoch, self._waiting[-1].frame) == (packet.epoch, packet.frame):
            self._waiting.pop()  # an early look at it, which was not even taken
        elif len(self._waiting) >= self._backlog:
            self._waiting.popleft()
            self.counters.dropped += 1
        self._waiting.append(packet)

    def _is_poorer(self, packet: Packet) -> bool:
        """Whether a base layer alone comes so soon after a fuller picture that this one is worth more."""
        if self._fuller_ms is None or min(packet.total_layers, self._layers) == 1:
            return False
        return 0 <= elapsed_s(self._fuller_ms, packet.time_ms) < FULLER_S

    def _enqueue_promised(self, packet: Packet) -> None:
        if len(self._promised) >= _MOST_PROMISED:
            self._promised.popleft()
            self.counters.dropped += 1
        self._promised.append(packet)
