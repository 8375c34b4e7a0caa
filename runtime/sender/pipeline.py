"""Pipeline of one sender, without a connection: `Frame -> Latent -> Packet -> publish`, no more than the link takes.

offer -> slot (newest frame) -> analyze once -> budget -> pack -> publisher (one frame) -> one message a layer
promise -> analyze -> pack -> spool on disk -> one message, again and again until a receiver has kept it

`StreamSender` is the pipeline with an MQTT connection, birth and state messages; this is what another link is built on.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgesem.errors import UsageError
from edgesem.packet.seal import Seal
from runtime.capture.frame import Frame
from runtime.congestion.interface import LinkControl
from runtime.protocol.command import PROMISED_BYTES
from runtime.protocol.state import USUAL_INTERVAL_S, State, watch_text
from runtime.protocol.topics import Topics
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.detail import DetailSlot
from runtime.sender.encode_stage import EncodeStage
from runtime.sender.event_recorder import EventRecorder
from runtime.sender.events import SenderEvent
from runtime.sender.frame_limits import FrameLimits
from runtime.sender.inbound import InboundMessages
from runtime.sender.metered_control import MeteredControl
from runtime.sender.options import PipelineOptions
from runtime.sender.outgoing import Publish
from runtime.sender.packer import Encoder, Packer
from runtime.sender.publisher import Publisher
from runtime.sender.redelivery import Redelivery
from runtime.sender.references import References
from runtime.sender.semantic_trigger import SemanticTrigger
from runtime.sender.spool import Spool
from runtime.sender.viewers import Viewers


class SenderPipeline:
    """Pipeline of one stream: sends the newest frame there is, as often as `control` has room.

    `publish(topic, payload, confirm)` hands a message to the link; the link's owner calls `connected`, `disconnected`
    and, with what comes from it, `on_message`. `on_event` takes what there is to report, `on_stuck(reason)` is called
    when the broker confirms nothing any more, `limit_bytes()` is the largest message that the broker takes (None: it
    has not said), and `measure_rtt(tell)` measures a round trip of a small message, and calls `tell` with its seconds.
    Without a `spool` nothing can be promised, and the epoch is drawn by lot.

    As a context manager it has two threads: one makes packets, one publishes their layers. Between the caller of
    `offer` and each of them stands one frame at most, and a newer one takes its place. Not entered, it has no threads
    and never waits: drive it with `encode_step` and `publish_step`, from one thread, in simulated time with `clock`.
    All methods are thread-safe but these two.
    """

    def __init__(
        self,
        *,
        codec: Encoder,
        topics: Topics,
        control: LinkControl,
        publish: Publish,
        on_event: Callable[[SenderEvent], None] = lambda _: None,
        options: PipelineOptions | None = None,
        spool: Spool | None = None,
        seal: Seal | None = None,
        trigger: SemanticTrigger | None = None,
        on_stuck: Callable[[str], None] = lambda _: None,
        limit_bytes: Callable[[], int | None] = lambda: None,
        measure_rtt: Callable[[Callable[[float], None]], None] | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = secrets.randbelow(2**16) if spool is None else spool.next_epoch()
        self.stop = stop or threading.Event()
        options = options or PipelineOptions()
        self._control, self._spool, self._trigger = control, spool, trigger
        self._redelivery = None if spool is None else Redelivery(spool)
        self.publisher = Publisher(
            epoch=self.epoch,
            topics=topics,
            control=control,
            publish=publish,
            on_event=on_event,
            redelivery=self._redelivery,
            seal=seal,
            ack_timeout_s=options.ack_timeout_s,
            on_stuck=on_stuck,
            stop=self.stop,
            limit_bytes=limit_bytes,
            measure_rtt=measure_rtt,
            frame_limits=FrameLimits(options.max_bytes, options.max_rate_bps),
            clock=clock,
        )
        self.counters = self.publisher.counters
        self._references = references = None
        if getattr(codec, "has_reference", False) and options.most_receivers:
            self._references = references = References(
                codec.unpack,  # type: ignore[attr-defined]
                epoch=self.epoch,
                key_interval_s=options.key_interval_s,
                most_receivers=options.most_receivers,
            )
        self.packer = Packer(
            codec=codec,
            control=control,
            publisher=self.publisher,
            epoch=self.epoch,
            min_quality=options.min_quality,
            next_epoch=self._begin_epoch,
            on_event=on_event,
            references=references,
            denoise=options.denoise,
            looks_whole=trigger is not None,
            clock=clock,
        )
        self.details = DetailSlot()
        """The newest picture in full resolution, where the frames that are offered have one."""
        self.viewers = Viewers(options.idle_every_s, clock) if options.idle_every_s else None
        """Who watches; None if pictures are sent whether somebody does or not."""
        self._encode_stage = EncodeStage(
            packer=self.packer,
            publisher=self.publisher,
            control=control,
            redelivery=self._redelivery,
            trigger=trigger,
            promise_every=0 if spool is None else options.promise_every,
            sharp=options.sharp,
            viewers=self.viewers,
            on_event=on_event,
            stop=self.stop,
            clock=clock,
        )
        self._frame_slot = frame_slot = self._encode_stage.frame_slot
        self.recorder: EventRecorder | None = None
        """What makes events; None: nothing does."""
        if options.events is not None and spool is not None:
            self.recorder = frame_slot.recorder = recorder = EventRecorder(
                options.events,
                wake=frame_slot.wake,
                paused=lambda: frame_slot.is_pause_asked,
                may_spend=self._may_begin_event,
                on_event=on_event,
                clock=clock,
            )
            if trigger is not None:
                trigger.loud_novelty = options.events.novelty
                trigger.on_seen = lambda cause, label, begins: recorder.seen(cause, label, begins=begins)
        self._inbound = InboundMessages(
            topics=topics,
            seal=seal,
            publisher=self.publisher,
            packer=self.packer,
            frame_slot=self._frame_slot,
            references=references,
            trigger=trigger,
            can_promise=spool is not None,
            viewers=self.viewers,
            details=self.details,
            recorder=self.recorder,
            on_event=on_event,
            clock=clock,
        )
        self._threads: list[threading.Thread] = []
        self.state_interval_s = USUAL_INTERVAL_S
        """What each state says of when the next one comes."""
        self.source_state: Callable[[], Mapping[str, Any]] = dict
        """What the owner of the source says of it in each state: `masked`, `grey`."""

    def __enter__(self) -> SenderPipeline:
        for name, work in (("encode", self._encode_stage.run), ("publish", self.publisher.run)):
            thread = threading.Thread(target=self._run, args=(work,), name=f"sender.{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._frame_slot.wake()
        with self.publisher.changed:
            self.publisher.changed.notify_all()
        self.publisher.wake()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        """One of the threads. When it ends, by the stop or by a defect, nobody waits for a delivery any more."""
        try:
            work()
        finally:
            self._frame_slot.close()
            if self._redelivery is not None:
                self._redelivery.close()

    def _may_begin_event(self) -> bool:
        """Whether the data budget, if there is one, lets an event begin."""
        with self.publisher.lock:
            return not isinstance(self._control, MeteredControl) or self._control.data.may_begin_event()

    def _begin_epoch(self) -> int:
        """All frame numbers are used: a new epoch, as at a new start."""
        with self.publisher.lock:
            self.epoch = (self.epoch + 1) % 2**16 if self._spool is None else self._spool.next_epoch()
            self.publisher.in_flight.begin_epoch(self.epoch)
            if self._references is not None:
                self._references.epoch = self.epoch
                self._references.clear()
        return self.epoch

    @property
    def alive(self) -> bool:
        """Whether all its threads run; a defect that ended one is in the log."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def idle(self) -> bool:
        """Whether all that came in has gone out and was acknowledged by a receiver."""
        publisher = self.publisher
        with publisher.lock:
            return self._frame_slot.idle and publisher.empty and not publisher.in_flight.unacknowledged

    def set_fps(self, fps: float) -> None:
        """Have at most so many frames a second sent from now on; 0: none but snapshots, as in a pause."""
        self._encode_stage.set_interval(1 / fps if fps else float("inf"))

    @property
    def paused(self) -> bool:
        """Whether somebody has asked for a pause, or `set_fps` for no frames."""
        return self._frame_slot.paused

    @property
    def beat_s(self) -> float:
        """When the encoding thread was last seen at work, by the clock."""
        return self._frame_slot.beat_s

    def offer(self, frame: Frame) -> None:
        """Put the newest frame into the slot; returns at once. What was offered before and not taken is forgotten.

        The picture is not copied: do not write to it afterwards.
        """
        frame = self.details.keep(frame)
        self._frame_slot.offer(frame)
        if self.recorder is not None:
            self.recorder.offer(frame)

    def promise(self, frame: Frame, max_bytes: int = PROMISED_BYTES) -> DeliveryHandle:
        """Have this frame delivered, however long it takes; blocks only while others wait to be encoded.

        The picture is not copied: do not write to it afterwards. Raises UsageError without a spool.
        """
        if self._redelivery is None:
            raise UsageError("this sender has no spool, so it can promise nothing: give it one")
        handle = DeliveryHandle()
        self._frame_slot.promise(self.details.keep(frame), max_bytes, handle)
        return handle

    def encode_step(self) -> bool:
        """Bring one frame on its way, in place of the encoding thread; False if there is nothing to do now."""
        return self._encode_stage.step()

    def publish_step(self) -> bool:
        """Publish one message, in place of the publishing thread; False if there is none, or no room for it now."""
        return self.publisher.step()

    def connected(self, rtt_s: float | None = None) -> None:
        """There is a new connection (`Connection(on_up=...)`)."""
        self.publisher.connected(rtt_s)

    def disconnected(self) -> None:
        """The connection is gone (`Connection(on_down=...)`)."""
        self.publisher.disconnected()

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one acknowledgement or command (`Connection(on_message=...)`). A bad one costs one log line."""
        self._inbound.take(topic, payload)

    def state(self) -> State:
        """State of the stream now: the message that is published on its `state` topic."""
        with self.publisher.lock:
            control, counters, limits = self._control.state(), self.counters, self.publisher.frame_limits
            capacity_bps = control.get("capacity_bps")
            return State(
                up=self.publisher.up,
                epoch=self.epoch,
                time_ms=time.time_ns() // 1_000_000,
                capacity_bps=None if capacity_bps is None else round(capacity_bps),
                rtt_s=control.get("rtt_s"),
                window_bytes=int(control.get("window_bytes") or 0),
                budget_bytes=self.packer.budget_bytes,
                sent_bytes=counters.sent_bytes,
                frames=counters.frames,
                skipped=counters.skipped,
                dropped_layers=counters.dropped_layers,
                age_s=self.publisher.in_flight.age_s,
                promised_waiting=0 if self._redelivery is None else self._redelivery.waiting,
                promised_refused=counters.promised_refused,
                reconnects=max(0, counters.connections - 1),
                paused=self.paused,
                promised_rejected=0 if self._spool is None else self._spool.rejected,
                promised_lost=0 if self._spool is None else self._spool.lost,
                refused=counters.refused,
                shrunk_percent=round(100 * self.packer.picture_size.share),
                denoised=self.packer.denoises,
                events=0 if self.recorder is None else self.recorder.count,
                makes_events=self.recorder is not None,
                watch=None if self._trigger is None else watch_text([one.text for one in self._trigger.queries]),
                max_bytes=limits.max_bytes,
                max_rate_bps=limits.max_rate_bps,
                detail=self.details.size,
                live="" if self.viewers is None else self.viewers.state,
                interval_s=self.state_interval_s,
                **self.source_state(),
            )
