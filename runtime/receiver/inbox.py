"""Inbox of one stream: opens, checks, acknowledges and reassembles its messages; its frames wait for a decoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from edgesem.errors import PacketError
from edgesem.packet.packet import MAX_LAYERS, MAX_SIDE, Packet
from edgesem.packet.replay import Replay
from edgesem.packet.seal import TAG_BYTES, Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.protocol.piece import MAX_PIECE_BYTES, Piece
from runtime.protocol.topics import Topics
from runtime.receiver.counters import ReceiverCounters
from runtime.receiver.frame_queue import FrameQueue
from runtime.receiver.piece_assembly import PieceAssembly
from runtime.receiver.seals import SealedStart, StreamSeals
from runtime.receiver.sender_conflict import SenderConflict
from runtime.receiver.sender_start import SenderStart, UnsealedStarts
from runtime.receiver.skipped_picture import SkippedPicture

Settle = Callable[[bool, bool, Callable[[], bool]], None]
"""`settle(safe, new, claim)`: whether a promised frame is on our disk now, and whether it was not there before.

`claim()` is called to queue it for a decoder here now; False: somebody else has taken it for that meanwhile."""
Keep = Callable[[Packet, Settle], None]
"""`keep(packet, settle)`: writes a promised frame to disk, and calls `settle` when that is done."""


class Inbox:
    """Inbox of one stream. Not thread-safe: use it under `Streams.lock`.

    Nothing here raises because of what came from outside: a bad message costs a counter and, now and then, a log line.
    Each message is acknowledged at once. A promised frame is given to `keep`, and acknowledged as kept when that calls
    back that it is; without `keep` it is acknowledged as received, so that its sender keeps it for another receiver.
    Frames then wait in a `FrameQueue`. What two senders under one name send in turn is kept apart.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        bundle_ids: Collection[int],
        acknowledge: Callable[[Ack, Seal | None], None],
        keep: Keep | None = None,
        may_wait: Callable[[], bool] = lambda: True,
        sealed: bool = False,
        layers: int = MAX_LAYERS,
        backlog: int = 2,
        max_pixels: int = MAX_SIDE * MAX_SIDE,
        limited_log: RateLimitedLog | None = None,
    ) -> None:
        self.counters = ReceiverCounters()
        self.decode_ms = 0
        """Decoding time of the latest picture, in milliseconds; acknowledgements carry it."""
        self.seals = StreamSeals(layers)
        """The seals that may open packets, from the births that were taken."""
        self.conflict = SenderConflict()
        """Whether births or packets come from two senders."""
        self.other_bundle: int | None = None
        """The bundle of the latest ordinary packet, if it is none of ours, so that it could not be decoded."""
        self.other_seal: Seal | None = None
        """The seal that opened that packet."""
        self.more_than_asked = False
        """Whether the latest message had more layers than are wanted here."""
        self._topics, self._bundle_ids, self._acknowledge, self._keep = topics, bundle_ids, acknowledge, keep
        self.queue = FrameQueue(self.counters, layers=layers, backlog=backlog, may_wait=may_wait)
        """The frames that wait for a decoder."""
        self._sealed, self._max_pixels = sealed, max_pixels
        self._layers = layers
        self._unsealed = UnsealedStarts(layers, lambda: self.conflict.seen)
        self._pieces = PieceAssembly()
        self._seen_promised = Replay()
        """Promised frames that came, where nobody keeps them here."""
        self._limited_log = limited_log or RateLimitedLog(logging.getLogger(__name__))

    def take(self, topic: str, payload: bytes) -> bool:
        """Take one message of a `pkt` topic; returns whether it is one of the stream: good, or of another bundle."""
        return self._take_piece(topic, payload) if topic == self._topics.piece else self._take_packet(topic, payload)

    def _take_piece(self, topic: str, payload: bytes) -> bool:
        """Take a piece of a promised packet, and the packet, if all its pieces are here."""
        self.more_than_asked = False
        try:
            if len(payload) > MAX_PIECE_BYTES + TAG_BYTES:  # before its tag costs any time
                raise PacketError(f"not a piece of a packet: {len(payload)} bytes")
            piece = Piece.from_bytes(self.seals.verify(payload, topic) if self._sealed else payload)
        except PacketError as error:
            self.counters.malformed += 1
            self._limited_log.warn("dropped a message on %s: %s", topic, error)
            return False
        packet = self._pieces.add(piece)
        if packet is not None and not self._take_packet(self._topics.layer(0), packet):
            self._pieces.forget(piece)
            return False
        return True

    def _take_packet(self, topic: str, payload: bytes) -> bool:
        received_ms = clock_ms()
        try:
            packet, start = self._parse(topic, payload)
            if not self._is_decodable(packet, start):
                return True
            if not packet.promised:
                self._add(packet, start)
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
            self._acknowledge(ack, seal)
        elif self._keep is None:
            self._acknowledge(ack, seal)
            if self._is_new(packet, self._seen_promised):
                self._use(start)
                self.queue.push_promised(packet)
        else:
            self._keep(packet, partial(self._settle, packet, start, ack))
        return True

    @property
    def seal(self) -> Seal | None:
        """The seal that opened the last packet that was new; commands are signed with it."""
        return None if self.seals.current is None else self.seals.current.seal

    def flush(self) -> None:
        """Release the incomplete frames to the decoders: no more messages will come."""
        for start in self._starts():
            self.queue.add(start, start.reassembly.flush())

    def release_incomplete(self, now_s: float, patience_s: float) -> float | None:
        """Queue an incomplete frame whose last layer came `patience_s` ago or earlier; more layers may still follow.

        Returns when to look again, by the monotonic clock; None if no other frame is incomplete.
        """
        look_s: float | None = None
        for start in self._starts():
            due_s = start.reassembly.due_s(patience_s)
            if due_s is not None and due_s <= now_s:
                self.queue.add(start, start.reassembly.early())
            elif due_s is not None:
                look_s = due_s if look_s is None else min(look_s, due_s)
        return look_s

    @property
    def waiting(self) -> int:
        """Number of frames that wait for a decoder."""
        return len(self.queue)

    def pop(self) -> Packet | SkippedPicture | None:
        """Take out what to decode next; None if nothing waits."""
        return self.queue.pop()

    def _parse(self, topic: str, payload: bytes) -> tuple[Packet, SealedStart | None]:
        opened, start = self._opened(payload) if self._sealed else (payload, None)
        packet = Packet.from_bytes(opened)
        if topic != self._topics.layer(packet.first_layer) or (packet.promised and packet.first_layer):
            raise PacketError(
                f"carries {len(packet.chunks)} layers from {packet.first_layer} on, does not match its topic"
            )
        if packet.width * packet.height > self._max_pixels:
            raise PacketError(
                f"{packet.width}x{packet.height} pixels, more than the {self._max_pixels} that may be decoded here: "
                "raise --max-pixels if you trust the sender"
            )
        return packet, start

    def _is_decodable(self, packet: Packet, start: SealedStart | None) -> bool:
        """Whether a packet was made with a bundle of ours, or is kept all the same: a promise from before its sender
        got another bundle, for `edgesem decode` with that one."""
        known = packet.bundle_id in self._bundle_ids
        if packet.promised and (known or self._keep is not None):
            return True
        self.other_bundle = None if known else packet.bundle_id
        self.other_seal = None if known or start is None else start.seal
        if not known:
            self.counters.other_bundle += 1
            ours = ", ".join(f"{one:04x}" for one in self._bundle_ids)
            self._limited_log.warn(
                "%s sends with bundle %04x, this receiver has %s: name it with --bundle too",
                *(self._topics.base, packet.bundle_id, ours),
            )
        return known

    def _opened(self, payload: bytes) -> tuple[bytes, SealedStart]:
        """The packet in a sealed one, and the start of the sender that sealed it."""
        try:
            return self.seals.open(payload)
        except PacketError:
            self.counters.unsealed += 1
            raise

    def _add(self, packet: Packet, sealed: SealedStart | None) -> None:
        """Take an ordinary packet, and queue what it completes. PacketError if it contradicts its frame's others."""
        start = sealed or self._unsealed.of(packet)
        if sealed is None and not self._is_in_order(packet):
            return
        start.reassembly.check(packet)  # before it counts as seen: a stray layer must not stand in the real one's way
        if sealed is not None and sealed.is_repeat(packet):
            self.counters.repeated += 1
            return
        if not self._is_new(packet, start.replay):
            return
        if self.conflict.note("packet", (packet.epoch, sealed and sealed.public_key)):
            self._limited_log.warn("%s: packets of two senders come in turn: give each a name", self._topics.base)
        if sealed is not None:
            sealed.note(packet)
            self._use(sealed)
        elif self._unsealed.is_late(packet):
            return
        self.queue.add(start, start.reassembly.add(packet))

    def _is_in_order(self, packet: Packet) -> bool:
        """Whether an unsealed packet may be true; its start begins anew where the sender is at an earlier frame."""
        if not self._unsealed.is_plausible(packet):
            self.counters.too_far += 1
            return False
        if self._unsealed.has_gone_back(packet):
            self._limited_log.warn(
                "%s goes on with frame %d: what was further came of a stranger",
                *(self._topics.base, packet.frame),
            )
        return True

    def _starts(self) -> Sequence[SenderStart]:
        return self.seals.starts() if self._sealed else self._unsealed.all()

    def _is_new(self, packet: Packet, replay: Replay) -> bool:
        fresh = replay.fresh(packet)
        self.counters.repeated += not fresh
        return fresh

    def _use(self, start: SealedStart | None) -> None:
        """A new packet of this start has come: commands are for it from now on."""
        if start is not None:
            self.seals.use(start)

    def _settle(
        self,
        packet: Packet,
        start: SealedStart | None,
        ack: Ack,
        safe: bool,
        new: bool,
        claim: Callable[[], bool],
    ) -> None:
        """The disk has answered: acknowledge, and queue what is new and has room; the rest is queued later."""
        if not safe:
            self.counters.not_kept += 1
            return
        self._acknowledge(replace(ack, kept=1), None if start is None else start.seal)
        if not new:
            self.counters.repeated += 1
            return
        self._use(start)
        self.counters.kept += 1
        if packet.bundle_id in self._bundle_ids and self.queue.has_promised_room and claim():
            self.queue.add_promised(packet)
