"""Frames in, packets out, no more of them than the link takes: `Frame -> Latent -> Packet -> Link`.

offer -> (newest frame) -> analyze once -> budget -> pack -> publisher (one frame) -> one message a layer
promise -> analyze -> pack -> spool on disk -> one message, again and again until a receiver has kept it
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgesem.errors import PacketError, UsageError
from edgesem.packet.seal import Seal
from runtime.capture.frame import Frame
from runtime.congestion.frame_rate import FrameRate
from runtime.congestion.interface import LinkControl
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.ack import Ack
from runtime.protocol.command import APART_S, Command, Once
from runtime.protocol.state import State
from runtime.protocol.topics import Topics
from runtime.sender.frame_slot import PROMISED_BYTES, FrameSlot
from runtime.sender.packer import Encoder, Packer
from runtime.sender.publisher import ROOM_S, Publish, Publisher
from runtime.sender.redelivery import Redelivery
from runtime.sender.references import References
from runtime.sender.semantic_trigger import SemanticTrigger, TriggerDecision
from runtime.sender.spool import Spool
from runtime.settings import KEYFRAME_INTERVAL_S, MAX_RECEIVERS

log = logging.getLogger(__name__)


class Sender:
    """Sends the newest frame there is, as often as `control` has room, and learns from what is confirmed.

    Three threads: who calls `offer`, one that makes packets, and one that publishes their layers. Between each two
    stands one frame at most, and a newer one takes its place. A promised frame goes to the spool first and leaves it
    when a receiver has said that it keeps it.

    `publish(topic, payload, confirm)` hands a message to the link (`Connection.publish`), `tell` takes what there is to
    report, `stuck` is called when the broker confirms nothing any more. Use it as a context manager.
    """

    def __init__(
        self,
        *,
        codec: Encoder,
        topics: Topics,
        control: LinkControl,
        publish: Publish,
        tell: Callable[..., None] = lambda **_: None,
        spool: Spool | None = None,
        seal: Seal | None = None,
        min_quality: float = 0.0,
        promise_every: int = 0,
        ack_timeout_s: float = 10.0,
        stuck: Callable[[str], None] = lambda _: None,
        stop: threading.Event | None = None,
        watch: SemanticTrigger | None = None,
        key_interval_s: float = KEYFRAME_INTERVAL_S,
        most_receivers: int = MAX_RECEIVERS,
        sharp: bool = False,
    ) -> None:
        self.epoch = secrets.randbelow(2**16) if spool is None else spool.next_epoch()
        self.stop = stop or threading.Event()
        self.unchanged = 0
        """Frames that were not sent because they said nothing new."""
        self._watch = watch
        self._topics = topics
        self._control = control
        self._tell = tell
        self._spool = spool
        self._seal = seal
        self._promises = None if spool is None else Redelivery(spool)
        self.publisher = Publisher(
            epoch=self.epoch,
            topics=topics,
            control=control,
            publish=publish,
            tell=tell,
            promises=self._promises,
            seal=seal,
            ack_timeout_s=ack_timeout_s,
            stuck=stuck,
            stop=self.stop,
        )
        self._frame_rate = FrameRate(sharp=sharp)
        self._asked_interval_s = control.interval_s
        self._references = None
        if getattr(codec, "has_reference", False) and most_receivers:
            self._references = References(
                codec.unpack,  # type: ignore[attr-defined]
                epoch=self.epoch,
                key_interval_s=key_interval_s,
                most_receivers=most_receivers,
            )
        self.packer = Packer(
            codec=codec,
            control=control,
            publisher=self.publisher,
            epoch=self.epoch,
            min_quality=min_quality,
            tell=tell,
            references=self._references,
        )
        self.counters = self.publisher.counters
        self._frame_slot = FrameSlot(
            publisher=self.publisher,
            control=control,
            ready_in_s=lambda: self.packer.analyze_s + self.packer.pack_s,
            skip=self._skip,
            stop=self.stop,
            promise_every=0 if spool is None else promise_every,
        )
        self._once = Once()
        self._limited_log = RateLimitedLog(log)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Sender:
        for name, work in (("encode", self._encode), ("publish", self.publisher.run)):
            thread = threading.Thread(target=work, name=f"sender.{name}", daemon=True)
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

    @property
    def alive(self) -> bool:
        """Whether all its threads run; a defect that ended one is in the log."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def idle(self) -> bool:
        """Whether all that came in has gone out and was acknowledged by a receiver."""
        with self.publisher.lock:
            return self._frame_slot.idle and self.publisher.empty and not self.publisher.unheard

    @property
    def paused(self) -> bool:
        """Whether somebody has asked for a pause."""
        return self._frame_slot.paused

    @property
    def beat_s(self) -> float:
        """When the encoding thread was last seen at work."""
        return self._frame_slot.beat_s

    def offer(self, frame: Frame) -> None:
        """Show the sender the newest frame; returns at once. What was offered before and not taken is forgotten."""
        self._frame_slot.offer(frame)

    def promise(self, frame: Frame, max_bytes: int = PROMISED_BYTES) -> None:
        """Have this frame delivered, however long it takes; waits only while others wait to be encoded.

        It is on the disk once `tell` has said `promised`.
        """
        if self._promises is None:
            raise UsageError("this sender has no spool, so it can promise nothing: give it one")
        self._frame_slot.promise(frame, max_bytes)

    def connected(self, rtt_s: float | None = None) -> None:
        """There is a new connection (`Connection(on_up=...)`)."""
        self.publisher.connected(rtt_s)

    def disconnected(self) -> None:
        """The connection is gone (`Connection(on_down=...)`)."""
        self.publisher.disconnected()

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one acknowledgement or command; runs on the network thread. A bad one costs one log line."""
        try:
            if self._seal is not None:
                payload = self._seal.verify(payload, topic)
            if topic == self._topics.ack:
                self._heard(Ack.from_bytes(payload))
            elif topic == self._topics.cmd:
                self._obey(Command.from_bytes(payload))
        except (PacketError, UsageError) as error:
            self._limited_log.warn("dropped a message on %s: %s", topic, error)

    def _heard(self, ack: Ack) -> None:
        """A receiver has a layer, or holds a frame that it has decoded; of that one's layers it has told before."""
        if self._references is not None:
            with self.publisher.lock:
                self._references.heard(ack, time.monotonic())
        if not ack.held:
            self.publisher.heard(ack)
        if self._watch is not None and (ack.layer == 0 or ack.held) and ack.epoch == self.epoch:
            self._watch.delivered(ack.frame)

    def state(self) -> State:
        """How the sender fares now."""
        with self.publisher.lock:
            control, counters = self._control.state(), self.counters
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
                age_s=self.publisher.age_s,
                promised_waiting=0 if self._spool is None else self._spool.waiting,
                promised_refused=counters.promised_refused,
                reconnects=max(0, counters.connections - 1),
                paused=self.paused,
            )

    def _encode(self) -> None:
        """Take the newest frame whenever its time has come and there is room for it; until the stop."""
        while (taken := self._frame_slot.take()) is not None:
            if taken.max_bytes:
                self._keep(taken.frame, taken.max_bytes)
            else:
                self._send(taken.frame)

    def _send(self, frame: Frame) -> None:
        latent = self.packer.analyze(frame)
        if latent is None:
            return None
        decision = self._look(latent)
        if decision is not None and not decision.send:
            return self._leave(frame, decision)
        if decision is not None and decision.promise and self._promises is not None:
            return self._keep(frame, PROMISED_BYTES, latent, decision)
        with self.publisher.changed:
            while (budget_bytes := self.publisher.budget_bytes(self.packer.pack_s)) is None:
                if self._frame_slot.overtaken or self.stop.is_set():
                    return self._skip()
                self.publisher.changed.wait(ROOM_S)
        if decision is not None:
            budget_bytes = max(self._control.min_bytes, round(decision.share * budget_bytes))
        packet = self.packer.pack(latent, budget_bytes, frame, embedding=decision.embedding if decision else b"")
        if packet is None:
            with self.publisher.lock:
                return self._skip()
        self._frame_rate.sent(packet.q)
        self._control.interval_s = self._asked_interval_s * self._frame_rate.factor
        self.publisher.put(packet)
        self._note(packet.frame, decision)
        return None

    def _look(self, latent: Any) -> TriggerDecision | None:
        return None if self._watch is None else self._watch.look(latent, time.monotonic())

    def _leave(self, frame: Frame, decision: TriggerDecision) -> None:
        """The receiver knows all that this frame says."""
        self.unchanged += 1
        self._tell(event="unchanged", name=frame.name, novelty=round(decision.novelty, 3))

    def _note(self, frame: int, decision: TriggerDecision | None) -> None:
        """A frame is on its way: what follows is compared with it."""
        if self._watch is None or decision is None:
            return
        self._watch.sent(frame, decision, time.monotonic())
        found = {"query": decision.query, "score": round(decision.score, 3)} if decision.query else {}
        self._tell(event="news", frame=frame, novelty=round(decision.novelty, 3), **found)

    def _skip(self) -> None:
        self.counters.skipped += 1
        self._tell(event="skipped", frame=self.packer.frame)

    def _keep(self, frame: Frame, max_bytes: int, latent: Any = None, decision: TriggerDecision | None = None) -> None:
        """Put a promised frame on the disk; it is sent as an ordinary one if the disk takes no more."""
        if latent is None:
            latent = self.packer.analyze(frame)
            if latent is None:
                return
            decision = self._look(latent)
        embedding = decision.embedding if decision else b""
        packet = self.packer.pack(latent, max_bytes, frame, smallest=True, embedding=embedding)
        if packet is None or self._promises is None:
            return
        about = {"epoch": packet.epoch, "frame": packet.frame, "name": frame.name}
        if self._promises.keep(replace(packet, promised=True)):
            self._tell(event="promised", **about)
            self.publisher.wake()
        else:
            self.counters.promised_refused += 1
            self._tell(event="refused", **about)
            self.publisher.put(packet)
        self._note(packet.frame, decision)

    def _obey(self, command: Command) -> None:
        if not self._once.first_time(command):
            return
        log.info("asked for: %s", command)
        with self.publisher.lock:
            if command.kind == "pause":
                self._frame_slot.pause(command.pause_s or float("inf"))
            elif command.kind == "resume":
                self._frame_slot.pause(0.0)
            elif command.kind == "snapshot":
                if self._promises is None:
                    raise UsageError("this sender has no spool, so it can promise no snapshot")
                self._frame_slot.snapshot(command.size_bytes)
            elif command.kind == "key" and self._references is not None:
                self._references.ask_for_key()
            elif command.kind == "apart":
                self.publisher.apart_until_s = time.monotonic() + APART_S
            elif command.kind == "roi":
                self.packer.roi = command.roi
            elif command.kind == "region":
                self.packer.region, self.packer.drop = command.roi, command.drop
            elif command.kind == "watch":
                if self._watch is None:
                    raise UsageError("this sender looks for nothing: start it with --watch or --send-on change")
                self._watch.look_for(command.queries, command.vectors)
        self._tell(event="asked", kind=command.kind)
