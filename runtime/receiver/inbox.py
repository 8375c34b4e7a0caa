"""Inbox of one stream: opens, checks, acknowledges and reassembles its messages; its frames wait for a decoder."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE, Packet
from edgesem.packet.replay import Replay
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms, elapsed_s
from runtime.protocol.topics import Topics
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.frame_order import FrameOrder
from runtime.receiver.reassembly import Reassembly
from runtime.receiver.seals import SealedStart, StreamSeals
from runtime.receiver.sender_conflict import SenderConflict

MAX_PROMISED = 64
"""Promised frames of a stream that wait for a decoder in memory; more wait on the disk."""
FULLER_S = 1.0
"""A base layer alone does not replace a picture with more layers that was captured less than this before it."""

Settle = Callable[[bool, bool], bool]
"""`settle(safe, new)`: whether a promised frame is on our disk now, and whether it was not there before.

Returns whether it waits for a decoder here now; if not, it is to be handed to `recover` later."""
Keep = Callable[[Packet, Settle], None]
"""`keep(packet, settle)`: writes a promised frame to disk, and calls `settle` when that is done."""


class _OtherBundleError(PacketError):
    """A packet that was made with another bundle."""


class Inbox:
    """Inbox of one stream. Not thread-safe: use it under `Streams.lock`.

    Nothing here raises because of what came from outside: a bad message costs a counter and, now and then, a log line.
    Each message is acknowledged at once. A promised frame is given to `keep`, and acknowledged as kept when that calls
    back that it is; without `keep` it is acknowledged as received, so that its sender keeps it for another receiver.
    At most `backlog` ordinary frames wait; one more drops the oldest. A base layer alone, all that came of its frame,
    is not queued within a second after a frame with more layers.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        bundle_id: int,
        acknowledge: Callable[[Ack, Seal | None], None],
        keep: Keep | None = None,
        sealed: bool = False,
        layers: int = MAX_LAYERS,
        backlog: int = 2,
        max_pixels: int = MAX_SIDE * MAX_SIDE,
        limited_log: RateLimitedLog | None = None,
    ) -> None:
        self.counters = ReceiverCounters()
        self.decode_ms = 0
        """Decoding time of the latest picture, in milliseconds; acknowledgements carry it."""
        self.seals = StreamSeals()
        """The seals that may open packets, from the births that were taken."""
        self.conflict = SenderConflict()
        """Whether packets come from two senders."""
        self.more_than_asked = False
        """Whether the latest message had more layers than are wanted here."""
        self._topics, self._bundle_id, self._acknowledge, self._keep = topics, bundle_id, acknowledge, keep
        self._sealed, self._max_pixels, self._backlog = sealed, max_pixels, backlog
        self._layers = layers
        self._reassembly = Reassembly(layers)
        self._replay, self._order = Replay(), FrameOrder()
        self._start: SealedStart | None = None
        """The start of the sender that the frame under way is of; None if it is not sealed."""
        self._waiting: deque[Packet] = deque()
        self._promised: deque[Packet] = deque()
        self._promised_next = False
        self._fuller_ms: int | None = None
        """When the latest frame with more than a base layer was captured."""
        self._limited_log = limited_log or RateLimitedLog(logging.getLogger(__name__))

    def take(self, topic: str, payload: bytes) -> bool:
        """Take one message of a `pkt` topic; returns whether it was good."""
        received_ms = clock_ms()
        try:
            packet, start = self._parse(topic, payload)
            finished = [] if packet.promised else self._add(packet, start)
        except _OtherBundleError as error:
            self.counters.other_bundle += 1
            self._limited_log.warn("dropped a message on %s: %s", topic, error)
            return False
        except PacketError as error:
            self.counters.malformed += 1
            self._limited_log.warn("dropped a message on %s: %s", topic, error)
            return False
        self.counters.layers += len(packet.chunks)
        self.counters.size_bytes += len(payload)
        self.more_than_asked = not packet.promised and packet.first_layer + len(packet.chunks) > self._layers
        ack = Ack(packet.epoch, packet.frame, packet.first_layer, received_ms, self.decode_ms)
        seal = None if start is None else start.seal
        if not packet.promised:
            for whole in finished:
                self._enqueue(whole)
            self._acknowledge(ack, seal)
        elif self._keep is None:
            self._acknowledge(ack, seal)
            if self._is_new(packet, self._replay):
                self._use(start)
                self._enqueue_promised(packet)
        else:
            self._keep(packet, lambda safe, new: self._settle(packet, start, ack, safe, new))
        return True

    @property
    def seal(self) -> Seal | None:
        """The seal that opened the last packet that was new; commands are signed with it."""
        return None if self.seals.current is None else self.seals.current.seal

    def flush(self) -> None:
        """Release the incomplete frame to the decoders: no more messages will come."""
        for packet in self._reassembly.flush():
            self._enqueue(packet)

    def release_incomplete(self, now_s: float, patience_s: float) -> float | None:
        """Queue an incomplete frame whose last layer came `patience_s` ago or earlier; more layers may still follow.

        Returns when to look again, by the monotonic clock; None if no frame is incomplete.
        """
        due_s = self._reassembly.due_s(patience_s)
        if due_s is not None and due_s <= now_s:
            for packet in self._reassembly.early():
                self._enqueue(packet)
            return None
        return due_s

    @property
    def waiting(self) -> int:
        """Number of frames that wait for a decoder."""
        return len(self._waiting) + len(self._promised)

    def pop(self) -> Packet | None:
        """Take out the frame to decode next, ordinary and promised ones in turn; None if none waits."""
        first, second = self._waiting, self._promised
        if self._promised_next:
            first, second = second, first
        queue = first or second
        if not queue:
            return None
        self._promised_next = queue is self._waiting
        return queue.popleft()

    @property
    def promised_waiting(self) -> int:
        """Number of promised frames among them."""
        return len(self._promised)

    def recover(self, packet: Packet) -> None:
        """Queue a promised frame that waited on our disk."""
        self._promised.append(packet)

    def _parse(self, topic: str, payload: bytes) -> tuple[Packet, SealedStart | None]:
        opened, start = self._opened(payload) if self._sealed else (payload, None)
        packet = Packet.from_bytes(opened)
        if topic != self._topics.layer(packet.first_layer) or (packet.promised and packet.first_layer):
            raise PacketError(
                f"carries {len(packet.chunks)} layers from {packet.first_layer} on, does not match its topic"
            )
        # A promise from before its sender got another bundle is kept all the same, for `edgesem decode` with that one.
        if packet.bundle_id != self._bundle_id and not (packet.promised and self._keep is not None):
            raise _OtherBundleError(f"made with bundle {packet.bundle_id:04x}, this receiver has {self._bundle_id:04x}")
        if packet.width * packet.height > self._max_pixels:
            raise PacketError(
                f"{packet.width}x{packet.height} pixels, more than the {self._max_pixels} that may be decoded here: "
                "raise --max-pixels if you trust the sender"
            )
        return packet, start

    def _opened(self, payload: bytes) -> tuple[bytes, SealedStart]:
        """The packet in a sealed one, and the start of the sender that sealed it."""
        try:
            return self.seals.open(payload)
        except PacketError:
            self.counters.unsealed += 1
            raise

    def _add(self, packet: Packet, start: SealedStart | None) -> list[Packet]:
        if start is None and not self._is_in_order(packet):
            return []
        # Another start counts from the beginning, in whatever epoch.
        reassembly = self._reassembly if start is self._start else Reassembly(self._layers)
        reassembly.check(packet)  # before it counts as seen: a stray layer must not stand in the real one's way
        if start is not None and start.is_repeat(packet):
            self.counters.repeated += 1
            return []
        if not self._is_new(packet, self._replay if start is None else start.replay):
            return []
        if start is not None:
            start.note(packet)
        self._use(start)
        self._start, self._reassembly = start, reassembly
        if self.conflict.note(packet.epoch):
            self._limited_log.warn("%s: packets of two senders come in turns: give each a name", self._topics.base)
        return self._reassembly.add(packet)

    def _is_in_order(self, packet: Packet) -> bool:
        """Whether an unsealed packet may be true; begins anew where the sender is at an earlier frame after all."""
        if not self._order.is_plausible(packet):
            self.counters.too_far += 1
            return False
        if self._order.has_gone_back(packet, later=self._reassembly.is_current(packet)):
            self._limited_log.warn(
                "%s goes on with frame %d: what was further came of a stranger",
                self._topics.base,
                packet.frame,
            )
            self._replay, self._reassembly = Replay(), Reassembly(self._layers)
        return True

    def _is_new(self, packet: Packet, replay: Replay) -> bool:
        fresh = replay.fresh(packet)
        self.counters.repeated += not fresh
        return fresh

    def _use(self, start: SealedStart | None) -> None:
        """A new packet of this start has come: commands are for it from now on."""
        if start is not None:
            self.seals.use(start)

    def _settle(self, packet: Packet, start: SealedStart | None, ack: Ack, safe: bool, new: bool) -> bool:
        """The disk has answered; whether the frame waits for a decoder now."""
        if not safe:
            self.counters.not_kept += 1
            return False
        self._acknowledge(replace(ack, kept=1), None if start is None else start.seal)
        if not new:
            self.counters.repeated += 1
            return False
        self._use(start)
        self.counters.kept += 1
        if packet.bundle_id != self._bundle_id or len(self._promised) >= MAX_PROMISED:
            return False
        self._promised.append(packet)
        return True

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
        """Queue a promised frame that nobody keeps here."""
        if len(self._promised) >= MAX_PROMISED:
            self._promised.popleft()
            self.counters.dropped += 1
        self._promised.append(packet)
