"""Inbound messages of a sender: acknowledgements and commands, checked, and handed to whom they concern."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from edgesem.errors import PacketError, UsageError
from edgesem.packet.seal import Seal
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.command import APART_S, Command, SeenCommands
from runtime.protocol.topics import Topics
from runtime.sender.detail import DetailSlot
from runtime.sender.event_recorder import EventRecorder
from runtime.sender.events import BundleMissing, CommandTaken, SenderEvent
from runtime.sender.frame_slot import FrameSlot
from runtime.sender.packer import Packer
from runtime.sender.publisher import Publisher
from runtime.sender.references import References
from runtime.sender.semantic_trigger import SemanticTrigger
from runtime.sender.viewers import Viewers

log = logging.getLogger(__name__)

_MOST_COMMANDS, _COMMANDS_S = 60, 10.0
"""So many commands in so many seconds are obeyed, whoever sends them."""


class InboundMessages:
    """Handler of what comes on a stream's `ack` and `cmd` topics; `take` runs on the network thread.

    `can_promise`: whether there is a spool, which snapshots need. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        seal: Seal | None,
        publisher: Publisher,
        packer: Packer,
        frame_slot: FrameSlot,
        references: References | None,
        trigger: SemanticTrigger | None,
        can_promise: bool,
        viewers: Viewers | None,
        details: DetailSlot,
        recorder: EventRecorder | None,
        on_event: Callable[[SenderEvent], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics, self._seal = topics, seal
        self._publisher, self._packer, self._frame_slot = publisher, packer, frame_slot
        self._references, self._trigger, self._can_promise = references, trigger, can_promise
        self._on_event, self._clock = on_event, clock
        self._viewers, self._details, self._recorder = viewers, details, recorder
        self._seen, self._seen_views = SeenCommands(), SeenCommands()  # those who watch say so too often for one memory
        self._limited_log = RateLimitedLog(log)
        self._limited_info = RateLimitedLog(log, 1.0)
        self._commands = deque[float](maxlen=_MOST_COMMANDS)

    def take(self, topic: str, payload: bytes) -> None:
        """Take one message. A bad one costs one log line, and many bad ones no more than one in ten seconds."""
        try:
            if self._seal is not None:
                payload = self._seal.verify(payload, topic)
            if topic == self._topics.ack:
                self._acknowledge(Ack.from_bytes(payload))
            elif topic == self._topics.cmd:
                self._obey(Command.from_bytes(payload))
        except (PacketError, UsageError) as error:
            self._limited_log.warn("dropped a message on %s: %s", topic, error)

    def _acknowledge(self, ack: Ack) -> None:
        """A receiver has a layer, or holds a frame that it has decoded, whose layers it has acknowledged before."""
        if self._references is not None:
            with self._publisher.lock:
                self._references.acknowledged(ack, self._clock())
        if not ack.held:
            self._publisher.acknowledged(ack)
        if self._trigger is not None and (ack.layer == 0 or ack.held) and ack.epoch == self._publisher.in_flight.epoch:
            self._trigger.delivered(ack.frame)

    def _obey(self, command: Command) -> None:
        seen = self._seen_views if command.kind == "view" else self._seen
        if not seen.first_time(command):
            return
        now_s = self._clock()
        if len(self._commands) == _MOST_COMMANDS and now_s - self._commands[0] < _COMMANDS_S:
            raise UsageError(f"more than {_MOST_COMMANDS} commands in {_COMMANDS_S:.0f} s: this one is not obeyed")
        self._commands.append(now_s)
        if command.kind == "bundle":
            self._tell_bundle(command)
            return
        if command.kind == "view":
            self._watched_by(command)
            return
        self._limited_info.info("asked for: %s", command)
        if command.kind == "detail":
            self._cut(command)
        with self._publisher.lock:
            if command.kind == "pause":
                self._frame_slot.pause(command.pause_s or float("inf"))
            elif command.kind == "resume":
                self._frame_slot.pause(0.0)
            elif command.kind == "snapshot":
                if not self._can_promise:
                    raise UsageError("this sender has no spool, so it can promise no snapshot")
                self._frame_slot.snapshot(command.size_bytes)
            elif command.kind == "event":
                if self._recorder is None:
                    raise UsageError("this sender makes no events: start it with --events")
                self._recorder.begin("ask", command.label)
            elif command.kind == "key" and self._references is not None:
                if self._references.ask_for_key(now_s):
                    self._frame_slot.send_newest()
            elif command.kind == "apart":
                self._publisher.layers.separate_until_s = self._clock() + APART_S
            elif command.kind == "roi":
                self._packer.roi = command.roi
            elif command.kind == "region":
                self._packer.region, self._packer.drop = command.roi, command.drop
            elif command.kind == "budget":
                self._publisher.frame_limits.set(command.max_bytes, command.max_rate_bps)
            elif command.kind == "watch":
                if self._trigger is None:
                    raise UsageError("this sender looks for nothing: start it with --watch or --send-on change")
                self._trigger.look_for(command.queries, command.vectors)
        self._on_event(CommandTaken(command.kind))

    def _cut(self, command: Command) -> None:
        """Promise the part of the newest picture that somebody wants to see."""
        if not self._can_promise:
            raise UsageError("this sender has no spool, so it can promise no detail")
        detail = self._details.cut(command.roi, command.id, within=self._packer.roi)
        self._frame_slot.promise_detail(detail, command.size_bytes)

    def _watched_by(self, command: Command) -> None:
        """Somebody watches, or does no more. A sender that is not on demand has nothing to change."""
        if self._viewers is None:
            return
        with self._publisher.lock:
            if self._viewers.renew(command.viewer, command.lease_s):
                self._frame_slot.send_newest()

    def _tell_bundle(self, command: Command) -> None:
        bundles = tuple(f"{one:04x}" for one in command.bundles)
        self._limited_log.warn(
            "a receiver cannot draw what is sent here, as it has other bundles (%s): give both the same",
            ", ".join(bundles),
        )
        with self._publisher.lock:
            self._publisher.counters.other_bundle += 1
        self._on_event(BundleMissing(bundles))
