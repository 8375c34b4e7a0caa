"""Encoding stage of a sender: `Frame -> analyze -> Latent -> trigger -> budget -> pack -> Packet`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from runtime.capture.frame import Frame
from runtime.congestion.frame_rate import FrameRate
from runtime.congestion.interface import LinkControl
from runtime.protocol.command import PROMISED_BYTES
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.events import (
    FramePromised,
    FrameSkipped,
    FrameTriggered,
    FrameUnchanged,
    PromiseRefused,
    SenderEvent,
)
from runtime.sender.frame_slot import FrameSlot, QueuedFrame
from runtime.sender.metered_control import MeteredControl
from runtime.sender.packer import Packer
from runtime.sender.publisher import ROOM_S, Publisher
from runtime.sender.redelivery import Redelivery
from runtime.sender.semantic_trigger import SemanticTrigger, TriggerDecision
from runtime.sender.viewers import Viewers

_THUMBNAIL_BYTES = 2500
"""What a frame gets of which the base layer alone is sent, because nobody watches; that layer has 1.4 to 1.8 KB."""


class _Analyzed(NamedTuple):
    """A frame that was analyzed and waits for room on the link."""

    frame: Frame
    latent: Any
    decision: TriggerDecision | None


class EncodeStage:
    """Encoding stage: makes packets of the slot's frames, for the publisher, or for the spool if they are promised.

    For one thread, the encoding thread (`run`); without it, `step` does one round. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        *,
        packer: Packer,
        publisher: Publisher,
        control: LinkControl,
        redelivery: Redelivery | None,
        trigger: SemanticTrigger | None,
        promise_every: int,
        sharp: bool,
        viewers: Viewers | None,
        on_event: Callable[[SenderEvent], None],
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.frame_slot = FrameSlot(
            publisher=publisher,
            control=control,
            ready_in_s=lambda: packer.analyze_s + packer.pack_s,
            skip=self._skip,
            stop=stop,
            promise_every=promise_every,
            look_at_all=trigger is not None,
            refuse=self._refuse,
            viewers=viewers,
            clock=clock,
        )
        self._packer, self._publisher, self._control = packer, publisher, control
        self._redelivery, self._trigger, self._on_event = redelivery, trigger, on_event
        self._viewers, self._stop, self._clock = viewers, stop, clock
        self._thumbnail_due_s = self._idle_skip_s = float("-inf")
        self._frame_rate = FrameRate(sharp=sharp)
        self._asked_interval_s = control.interval_s
        self._analyzed: _Analyzed | None = None

    def set_interval(self, interval_s: float) -> None:
        """Have frames sent so often from now on, in seconds; infinity: none, until it is another."""
        with self._publisher.changed:
            if interval_s < float("inf"):
                self._asked_interval_s = interval_s
                self._control.interval_s = interval_s * self._frame_rate.factor
            self.frame_slot.set_interval(interval_s)

    def run(self) -> None:
        """Encode the newest frame whenever its time has come and there is room for it; until the stop."""
        while not self._stop.is_set() or self._analyzed is not None:
            self.step(wait=True)

    def step(self, *, wait: bool = False) -> bool:
        """Bring one frame on its way, or to its end; False if there was nothing to do now.

        A frame is analyzed once; what then finds no room is kept until there is some, or a newer frame comes. `wait`:
        wait for a frame, or for room, if there is none.
        """
        self.frame_slot.beat_s = self._clock()
        if self._analyzed is None:
            queued = self.frame_slot.take(wait=wait)
            if queued is None:
                return False
            try:
                self._analyze(queued)
            except BaseException:
                if queued.handle is not None:
                    queued.handle.refuse("a defect has ended the sender: see the log")
                raise
        return self._analyzed is None or self._send(self._analyzed, wait=wait)

    def _analyze(self, queued: QueuedFrame) -> None:
        """Analyze a frame, and promise it or leave it out if that is what is to be done; else it waits for room."""
        latent = self._packer.analyze(queued.frame, promised_bytes=queued.max_bytes)
        if latent is None:
            if queued.handle is not None:
                queued.handle.refuse("it cannot be encoded: the reason is in the log")
            return
        decision = None
        frame = queued.frame
        is_new = frame.event is None and frame.detail is None  # one of an event was looked at as it came
        if self._trigger is not None and is_new:
            decision = self._trigger.look(latent, self._clock(), connected=self._publisher.up)
        analyzed = _Analyzed(queued.frame, latent, decision)
        if queued.max_bytes:
            self._promise(analyzed, queued.max_bytes, queued.handle)
        elif decision is not None and not (decision.send or self._owes_picture):  # the receiver knows all it shows
            self._publisher.counters.unchanged += 1
            self._on_event(FrameUnchanged(queued.frame.name, round(decision.novelty, 3)))
        elif decision is not None and decision.promise and self._redelivery is not None:
            self._promise(analyzed, PROMISED_BYTES, None)
        elif not self._is_idle or self._clock() >= self._thumbnail_due_s:
            self._analyzed = analyzed

    def _send(self, analyzed: _Analyzed, *, wait: bool) -> bool:
        """Pack an ordinary frame and have it published; False if there is no room for it yet."""
        with self._publisher.changed:
            budget_bytes = self._publisher.budget_bytes(self._packer.pack_s)
            if budget_bytes is None:
                if self.frame_slot.overtaken or self._stop.is_set():
                    self._analyzed = None
                    self._skip()
                    self._hurry()
                    return True
                if wait:
                    self._publisher.changed.wait(ROOM_S)
                return False
        self._analyzed = None
        frame, latent, decision = analyzed
        thumbnail = self._is_idle
        if thumbnail:
            budget_bytes = min(budget_bytes, _THUMBNAIL_BYTES)
        elif decision is not None and not self._owes_picture:
            budget_bytes = min(budget_bytes, max(self._control.min_bytes, round(decision.share * budget_bytes)))
        embedding = decision.embedding if decision else b""
        packet = self._packer.pack(latent, budget_bytes, frame, thumbnail=thumbnail, embedding=embedding)
        if packet is None:
            with self._publisher.lock:
                self._skip()
                self._hurry()
            return True
        if thumbnail and self._viewers is not None:
            self._thumbnail_due_s = self._clock() + 0.9 * self._viewers.idle_every_s  # frames come when they come
            packet = packet.prefix(1)
        else:
            self._frame_rate.sent(packet.q)
            self._control.interval_s = self._asked_interval_s * self._frame_rate.factor
            if self._viewers is not None:
                self._viewers.owed = False
        self._publisher.put(packet)
        self._note(packet.frame, decision)
        return True

    def _hurry(self) -> None:
        """A frame was left out: if it was a thumbnail, or somebody waits for it, the next one goes when it comes."""
        if self._is_idle or self._owes_viewer:
            self.frame_slot.hurry()

    @property
    def _is_idle(self) -> bool:
        """Whether nobody watches, so that thumbnails are all that is sent."""
        with self._publisher.lock:
            return self._viewers is not None and not self._viewers.watched

    @property
    def _owes_viewer(self) -> bool:
        """Whether somebody has begun to watch, and waits for a picture."""
        with self._publisher.lock:
            return self._viewers is not None and self._viewers.owed and self._viewers.watched

    @property
    def _owes_picture(self) -> bool:
        """Whether somebody waits for a picture, whatever it shows: who has begun to watch, or wants a keyframe."""
        with self._publisher.lock:
            return self._owes_viewer or (self._packer.owes_keyframe and not self._is_idle)

    def _promise(self, analyzed: _Analyzed, max_bytes: int, handle: DeliveryHandle | None) -> None:
        """Put a promised frame on the disk; it is sent as an ordinary one if the disk takes no more."""
        frame, latent, decision = analyzed
        embedding = decision.embedding if decision else b""
        most_bytes = self._publisher.sizes.most_bytes(max_bytes)
        packet = self._packer.pack(latent, most_bytes, frame, smallest=True, embedding=embedding)
        if packet is None or self._redelivery is None:
            return
        if self._redelivery.keep(packet, handle):
            self._count_promised(packet.size_bytes, event=frame.event is not None)
            self._on_event(FramePromised(packet.epoch, packet.frame, frame.name))
            self._publisher.wake()
        else:
            self._publisher.counters.promised_refused += 1
            self._on_event(PromiseRefused(packet.epoch, packet.frame, frame.name))
            self._publisher.put(replace(packet, promised=False))  # it may go layer by layer, as no promised one does
            self._note(packet.frame, decision)
            return
        self._note(packet.frame, decision)
        if self._trigger is not None:  # it will be delivered, sooner or later
            self._trigger.delivered(packet.frame)

    def _count_promised(self, size_bytes: int, *, event: bool) -> None:
        if isinstance(self._control, MeteredControl):
            with self._publisher.lock:
                self._control.data.promised(size_bytes, event=event)

    def _note(self, frame: int, decision: TriggerDecision | None) -> None:
        """A frame is on its way: what follows is compared with it."""
        if self._trigger is None or decision is None:
            return
        self._trigger.sent(frame, decision, self._clock())
        score = round(decision.score, 3) if decision.query else 0.0
        self._on_event(FrameTriggered(frame, round(decision.novelty, 3), decision.query, score))

    def _refuse(self, frame: Frame) -> None:
        """Count a frame that was due to be promised and cannot be: the processor is too slow. Under the lock."""
        self._publisher.counters.promised_refused += 1
        self._on_event(PromiseRefused(self._packer.epoch, self._packer.frame, frame.name))

    def _skip(self) -> None:
        """Count a frame that is left out; of those that nobody watches, one for each thumbnail. Under the lock."""
        if self._viewers is not None and not self._viewers.watched:
            if self._clock() < self._idle_skip_s:
                return  # it is still the same thumbnail that is not sent
            self._idle_skip_s = self._clock() + self._viewers.idle_every_s
        self._publisher.counters.skipped += 1
        self._on_event(FrameSkipped(self._packer.frame))
