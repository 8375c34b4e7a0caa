"""Stream maker: makes the streams of a receiver, each with its inbox and what the disk remembers of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable

from edgesem.errors import PacketError
from edgesem.packet.packet import Packet
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.topics import Topics
from runtime.receiver.inbox import Inbox, Settle
from runtime.receiver.options import Limits
from runtime.receiver.stream import FreshStart, Stream
from runtime.receiver.synthesis import SynthesisOptions


class StreamMaker:
    """Stream maker. Not thread-safe: use it under `Streams.lock`.

    `acknowledge` and `keep` are called by the inboxes with the topics of their stream, `may_wait` without. `remembered`
    is what the disk has of sealed streams.
    """

    def __init__(
        self,
        *,
        bundle_ids: Collection[int],
        key: bytes | None,
        layers: int,
        limits: Limits,
        acknowledge: Callable[[Topics, Ack, Seal | None], None],
        keep: Callable[[Topics, Packet, Settle], None] | None,
        may_wait: Callable[[], bool],
        limited_log: RateLimitedLog,
        remembered: Iterable[FreshStart],
    ) -> None:
        self._bundle_ids, self._key, self._layers, self._limits = bundle_ids, key, layers, limits
        self._acknowledge, self._keep, self._may_wait, self._limited_log = acknowledge, keep, may_wait, limited_log
        self._remembered: dict[str, list[FreshStart]] = {}
        for start in remembered:
            self._remembered.setdefault(start.stream, []).append(start)

    def make(self, topics: Topics, synthesis: SynthesisOptions) -> Stream:
        """A stream that nothing has come of yet."""
        keep = self._keep
        inbox = Inbox(
            topics=topics,
            bundle_ids=self._bundle_ids,
            acknowledge=lambda ack, seal: self._acknowledge(topics, ack, seal),
            keep=None if keep is None else lambda packet, settle: keep(topics, packet, settle),
            may_wait=self._may_wait,
            sealed=self._key is not None,
            layers=self._layers,
            backlog=self._limits.backlog,
            max_pixels=self._limits.max_pixels,
            limited_log=self._limited_log,
        )
        stream = Stream(topics, inbox, synthesis)
        if self._key is not None:
            for start in self._remembered.get(topics.base, ()):
                with contextlib.suppress(PacketError):  # of another key, or damaged
                    stream.restore(start, self._key)
            stream.saved = stream.fresh_starts()
        return stream

    def fresh_starts(self, streams: Collection[Stream]) -> list[FreshStart]:
        """What is new of sealed streams since the last call, for the disk."""
        changed: list[FreshStart] = []
        for stream in streams:
            now = stream.fresh_starts()
            changed += [one for one in now if one not in stream.saved]
            stream.saved = now
        for one in changed:
            others = (known for known in self._remembered.get(one.stream, ()) if known.public_key != one.public_key)
            self._remembered[one.stream] = [*others, one]
        return changed
