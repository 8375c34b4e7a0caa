"""Reference memory of a receiver: the latents of all streams that inter frames may refer to, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from edgesem.errors import MissingReference
from edgesem.packet.packet import Packet
from runtime.protocol.ack import Ack
from runtime.protocol.clock import clock_ms
from runtime.receiver.feedback import Feedback
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.sender_requests import SenderRequests
from runtime.receiver.stream import Stream

_SILENT_S = 5.0
"""A stream that was silent for so long beside the one that needs room loses its references."""


class ReferenceMemory:
    """Reference memory, at most `limit_bytes`. Thread-safe, for the decoder threads.

    `lock` is that of the streams, `streams` gives all of them. A sender is told which frames it may refer to, and asked
    for a keyframe where a reference is missing; without a number of our own in `feedback`, neither.
    """

    def __init__(
        self,
        limit_bytes: int,
        *,
        lock: threading.RLock,
        streams: Callable[[], Collection[Stream]],
        feedback: Feedback,
        requests: SenderRequests,
    ) -> None:
        self._limit_bytes, self._lock, self._streams = limit_bytes, lock, streams
        self._feedback, self._requests = feedback, requests

    def find(self, stream: Stream, packet: Packet) -> HeldLatent | None:
        """The latent that an inter frame refers to; None for a keyframe.

        Raises MissingReference if it is not here, and asks the sender for a keyframe, once a second at most.
        """
        named = packet.side_info.reference
        if named is None:
            return None
        with self._lock:
            latent = stream.references.get(packet.epoch, named.frame, named.layers)
            if latent is not None:
                return latent
            stream.inbox.counters.missing_reference += 1
            self._requests.keyframe(stream)
        self._feedback.publish_all()
        raise MissingReference(f"refers to frame {named.frame}, which is not here: asked its sender for a keyframe")

    def hold(self, stream: Stream, packet: Packet, latent: HeldLatent) -> None:
        """Hold the latent of a decoded frame, so that later ones may refer to it, and tell the sender.

        A sender hardly ever goes back behind what it refers to: what is older goes, or a stream would take 12 latents.
        """
        if not self._feedback.receiver or packet.promised:
            return
        layers = len(packet.chunks)
        with self._lock:
            stream.references.put(
                packet.epoch, packet.frame, layers, latent, senders=2 if stream.has_two_senders else 1
            )
            named = packet.side_info.reference
            if named is not None:
                stream.references.drop_before(packet.epoch, named.frame)
            stream.reference_bytes = stream.references.size_bytes
            self._make_room(stream)
            if stream.references.get(packet.epoch, packet.frame, layers) is None:
                return
            ack = Ack(packet.epoch, packet.frame, layers - 1, clock_ms(), stream.inbox.decode_ms, held=layers)
            self._feedback.ack(stream.topics, ack, stream.inbox.seal)
        self._feedback.publish_all()

    def _make_room(self, stream: Stream) -> None:
        """Drop latents: all of the stream that was silent longest, or the oldest of the one that has most."""
        holders = [one for one in self._streams() if one.reference_bytes]
        while sum(one.reference_bytes for one in holders) > self._limit_bytes:
            victim = min(holders, key=lambda one: one.heard_s if one.reference_bytes else float("inf"))
            if stream.heard_s - victim.heard_s >= _SILENT_S:
                victim.references.clear()
            else:
                victim = max(holders, key=lambda one: one.reference_bytes)
                victim.references.drop_oldest()
            victim.reference_bytes = victim.references.size_bytes
