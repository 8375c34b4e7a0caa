"""Sender of one stream, whole: codec, pipeline, MQTT connection, birth and state messages.

with StreamSender(Address("127.0.0.1", 1883), "home/gate/main", SenderOptions(fps=2)) as sender:
    for picture in my_camera():  # uint8 [H, W, 3], RGB
        sender.offer(picture)  # returns at once; the newest wins
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesem.codec.codec import Codec
from edgesem.errors import EdgesemError, FrameError, InputError, LinkError, UsageError
from edgesem.files import write_whole
from edgesem.packet.keys import Identity
from edgesem.packet.packet import MAX_SIDE
from edgesem.packet.seal import Seal, new_salt
from runtime.capture.frame import MIN_SIDE, Frame
from runtime.congestion.control import Control
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.birth import Birth
from runtime.protocol.clock import clock_ms, unix_ms
from runtime.protocol.command import LARGEST_FRAME_BYTES, MAX_PROMISED_BYTES, MIN_PROMISED_BYTES, PROMISED_BYTES
from runtime.protocol.state import State
from runtime.protocol.topics import Topics, stream_folder
from runtime.sender.announcer import EVERY_S, UNRETAINED_S, Announcer
from runtime.sender.data_budget import DataBudget
from runtime.sender.delivery import DeliveryHandle
from runtime.sender.events import SenderEvent, StateReported
from runtime.sender.metered_control import MeteredControl
from runtime.sender.options import SenderOptions
from runtime.sender.pipeline import SenderPipeline
from runtime.sender.semantic_trigger import SemanticTrigger
from runtime.sender.spool import Spool
from runtime.settings import open_identity

log = logging.getLogger(__name__)

_GOODBYE_S = 1.0
_THRIFTY_KEEP_ALIVE_S = 60
"""With a data budget, and on demand: a standing connection costs bytes too."""
_UNCOUNTED_BYTES = 1000  # of a frame: headers of its messages, their confirmations, acknowledgements and pings


class StreamSender:
    """Sender of one stream: sends what is offered, at the rate that the link bears, while it is entered.

    A lost connection is made again by itself.

    `address` is the broker's, or those of several nodes of a cluster. `stream` is `site/device/stream`. `folder` holds
    promised frames, the device's own signing key and the number of its starts: without it nothing can be promised or
    sealed, and no birth message is sent unless an `identity` is given.
    `key` (32 bytes) seals the stream. `trigger` decides by content which frames are sent; `data_budget` how many bytes
    the stream may cost: then call `count_wire` each second. `on_event` is called with each event
    (`runtime.sender.events`) on the sender's threads. `pipeline` has all else, such as `pipeline.state()`.

    Construction raises UsageError for arguments that do not go together, InputError for a folder that cannot be used,
    BundleError for a bundle that cannot. A broker that is not there is no error: it is tried again until the end.

    `offer`, `promise`, `report_state` and the properties are thread-safe. Enter it once; it cannot be entered again.
    """

    def __init__(
        self,
        address: Address | Sequence[Address],
        stream: str | Topics,
        options: SenderOptions | None = None,
        *,
        codec: Codec | None = None,
        folder: Path | None = None,
        identity: Identity | None = None,
        key: bytes | None = None,
        trigger: SemanticTrigger | None = None,
        data_budget: DataBudget | None = None,
        on_event: Callable[[SenderEvent], None] = lambda _: None,
    ) -> None:
        import edgesem

        self.topics = topics = stream if isinstance(stream, Topics) else Topics.named(stream)
        self.options = options = options or SenderOptions()
        if key is not None and folder is None:
            raise UsageError("a sealed stream needs a folder, in which its starts are counted: name one")
        if options.events is not None and folder is None:
            raise UsageError("events are promised frames, which need a folder: name one")
        if options.promise_every and folder is None:
            raise UsageError("promise_every needs a folder, in which promised frames are kept: name one")
        self.codec = edgesem.load() if codec is None else codec
        if identity is None and folder is not None:
            identity = open_identity(folder / "identity.key")
        self._on_event, self._salt, self._key = on_event, new_salt(), key
        self._spool: Spool | None = None
        self._start = int(time.time())
        if folder is not None:
            path = stream_folder(folder / "spool", topics) / "promised.sqlite"
            self._spool = Spool(path, max_bytes=options.spool_bytes)
            self._start = self._spool.next_start()
        self._reported_s = float("-inf")
        self._wire_bytes, self._limited_log = 0, RateLimitedLog(log, 600.0)
        self._lock = threading.Lock()
        self._running = contextlib.ExitStack()
        self._entered = False
        self.data_budget = data_budget
        control = Control(
            interval_s=1 / options.fps,
            max_bytes=LARGEST_FRAME_BYTES,  # the stream's own limit is the pipeline's
            fill_share=1.0 if options.sharp else Control.fill_share,
            refers=options.most_receivers > 0 and self.codec.has_reference,
            unacked_bytes=lambda: self.connection.unacked_bytes(),
        )
        if data_budget is not None:
            control = MeteredControl(
                interval_s=control.interval_s,
                max_bytes=control.max_bytes,
                fill_share=control.fill_share,
                refers=control.refers,
                unacked_bytes=control.unacked_bytes,
                data=data_budget,
            )
        self.pipeline = SenderPipeline(
            codec=self.codec,
            topics=topics,
            control=control,
            publish=lambda topic, data, confirm: self.connection.publish(topic, data, confirm=confirm, refuse=confirm),
            on_event=on_event,
            options=options,
            spool=self._spool,
            seal=None if key is None else Seal(key, stream=topics.base, salt=self._salt),
            trigger=trigger,
            on_stuck=lambda reason: self.connection.reconnect(reason),
            limit_bytes=lambda: self.connection.limit_bytes,
            measure_rtt=lambda tell: self.connection.measure_rtt(tell),
        )
        self.pipeline.state_interval_s = options.state_interval_s
        thrifty = data_budget is not None or options.idle_every_s > 0
        self._announcer: Announcer | None = None
        if identity is not None:
            self._announcer = Announcer(
                topics=topics,
                make=self._birth,
                identity=identity,
                key=key,
                connection=lambda: self.connection,
                unretained_s=EVERY_S if thrifty else UNRETAINED_S,
            )
        gone = State(up=False, epoch=self.pipeline.epoch, time_ms=time.time_ns() // 1_000_000)
        self.connection = Connection(
            address,
            name="sender",
            subscribe=(topics.ack, topics.cmd, *([topics.birth] if self._announcer else [])),
            on_message=self._on_message,
            on_up=self._connected,
            on_down=lambda _: self.pipeline.disconnected(),
            will=(topics.state, gone.to_bytes()),
            retry=True,
            keep_alive_s=_THRIFTY_KEEP_ALIVE_S if thrifty else None,
        )

    def __enter__(self) -> StreamSender:
        if self._entered:
            raise UsageError("a StreamSender can be entered once: make a new one")
        # Loads the networks: the first frame shall not wait for that.
        self.codec.pack(self.codec.analyze(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)), quality=0)
        with contextlib.ExitStack() as running:  # what began ends again, if the rest cannot begin
            running.callback(self.close)
            running.enter_context(self.pipeline)
            running.enter_context(self.connection)
            if self._announcer is not None:
                running.enter_context(self._announcer)
            self._running = running.pop_all()
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        self._say_goodbye()
        self._running.close()
        if self.data_budget is not None:
            self.count_wire()
            self._write_accounts(self.data_budget, self.data_budget.accounts())

    def close(self) -> None:
        """Close the spool; needed only for a sender that was never entered. May be called again."""
        if self._spool is not None:
            self._spool.close()

    @property
    def alive(self) -> bool:
        """Whether it is entered and all its threads run."""
        running = self._entered and not self.pipeline.stop.is_set()
        announced = self._announcer is None or self._announcer.alive
        return running and announced and self.pipeline.alive and self.connection.alive

    def offer(self, picture: NDArray[np.uint8], name: str = "") -> None:
        """Show the sender the newest picture; returns at once. What was offered before and not taken is forgotten.

        picture: uint8 [H, W, 3], RGB, sides 64 to 4096. It is copied, so the caller may use the array again. `name`
        stands in events. Raises FrameError for any other picture, and EdgesemError once the sender can send nothing
        any more: it is not entered, or closed, or a defect has ended it (LinkError if that was the connection's).
        """
        frame = _frame(picture, name)
        self._check_alive()
        self.pipeline.offer(frame)
        self.report_state(every_s=self.options.state_interval_s)

    def promise(self, picture: NDArray[np.uint8], name: str = "", *, max_bytes: int = PROMISED_BYTES) -> DeliveryHandle:
        """Have this picture delivered, however long it takes: it stays in the folder until a receiver keeps it.

        picture: as for `offer`, copied too. max_bytes: size limit of its packet, 256 to 65535. Blocks only while four
        others wait to be encoded. Returns a handle to wait on. Raises UsageError without a folder, and as `offer`.
        """
        if self._spool is None:
            raise UsageError("this sender has no folder, so it can promise nothing: name one")
        if not MIN_PROMISED_BYTES <= max_bytes <= MAX_PROMISED_BYTES:
            raise UsageError(f"max_bytes is {max_bytes}, must be {MIN_PROMISED_BYTES} to {MAX_PROMISED_BYTES}")
        frame = _frame(picture, name)
        self._check_alive()
        return self.pipeline.promise(frame, max_bytes)

    def begin_event(self, label: str = "") -> None:
        """Something happens now: promise the pictures of the last seconds and of the next ones, as one event.

        Returns at once. Raises UsageError without `events` in the options, in a pause that was asked for, and if there
        were too many lately.
        """
        if self.pipeline.recorder is None:
            raise UsageError("this sender makes no events: give it SenderOptions(events=EventOptions())")
        self.pipeline.recorder.begin("ask", label)

    def report_state(self, *, every_s: float = 0.0) -> None:
        """Publish the stream's state, unless that was done in the last `every_s` seconds."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._reported_s + every_s:
                return
            self._reported_s = now_s
        state = self.pipeline.state()
        self._on_event(StateReported(state))
        with contextlib.suppress(LinkError):
            self.connection.publish(self.topics.state, state.to_bytes(), qos=0, retain=True)

    def count_wire(self) -> None:
        """Have the data budget take what went over the wire since the last call; once a second is often enough.

        Where the kernel does not count it, it is what was published, with the headers that a message of its own has.
        """
        budget = self.data_budget
        if budget is None:
            return
        total_bytes, lock = self.connection.wire_bytes(), self.pipeline.publisher.lock
        with lock:
            if total_bytes is None:
                total_bytes = self.pipeline.counters.sent_bytes + _UNCOUNTED_BYTES * self.pipeline.counters.frames
            if total_bytes > self._wire_bytes:
                budget.spent(total_bytes - self._wire_bytes)
                self._wire_bytes = total_bytes
            else:
                budget.spent(0)
            accounts = budget.due_accounts()
        if accounts is not None:
            self._write_accounts(budget, accounts)

    def _write_accounts(self, budget: DataBudget, accounts: bytes) -> None:
        try:
            write_whole(budget.file, accounts, mode=0o600)
        except InputError as error:
            self._limited_log.warn("what was spent of the data budget is forgotten at the next start: %s", error)

    def _check_alive(self) -> None:
        if self.alive:
            return
        stream = f"the sender of {self.topics.base}"
        if not self._entered:
            raise EdgesemError(f"{stream} does not run yet: use it in a with statement")
        if self.pipeline.stop.is_set():
            raise EdgesemError(f"{stream} was closed: make a new one")
        if not self.pipeline.alive:
            raise EdgesemError(f"a thread of {stream} was ended by a defect: see the log, and please report it")
        raise LinkError(f"the connection of {stream} was ended by a defect: see the log, and please report it")

    def _on_message(self, topic: str, payload: bytes) -> None:
        if topic == self.topics.birth:
            if self._announcer is not None:
                self._announcer.heard(payload)
        elif topic == self.topics.cmd and not payload:  # a receiver without our birth; it could not sign anything
            if self._announcer is not None:
                self._announcer.asked()
        else:
            self.pipeline.on_message(topic, payload)

    def _birth(self) -> Birth:
        import edgesem

        return Birth(
            bundle_id=self.codec.bundle.id,
            bundle_digest=self.codec.bundle.digest[:64],
            width=self.options.size[0],
            height=self.options.size[1],
            fps=self.options.fps,
            epoch=self.pipeline.epoch,
            salt=self._salt,
            time_ms=unix_ms(),
            sealed=self._key is not None,
            program=f"edgesem {edgesem.__version__}"[:32],
            start=self._start,
        )

    def _connected(self) -> None:
        """On each new connection: the birth message, before anything else."""
        with contextlib.suppress(LinkError):  # lost again already; the next connection sends it
            if self._announcer is not None:
                self._announcer.say()
            self.pipeline.connected(self.connection.rtt_s)
            self.report_state()

    def _say_goodbye(self) -> None:
        """The last state says that the sender was closed; promised frames stay on the disk."""
        confirmed = threading.Event()
        state = replace(self.pipeline.state(), up=False)
        with contextlib.suppress(LinkError):
            self.connection.publish(self.topics.state, state.to_bytes(), retain=True, confirm=confirmed.set)
            confirmed.wait(_GOODBYE_S)


def _frame(picture: NDArray[np.uint8], name: str) -> Frame:
    """A copy of the picture, with the time of its capture; FrameError if it cannot be sent."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        what = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise FrameError(f"a picture must be a numpy array, uint8 [H, W, 3], RGB, got {what}")
    height, width = picture.shape[:2]
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise FrameError(f"a picture's sides must be {MIN_SIDE} to {MAX_SIDE} pixels, got {width}x{height}: resize it")
    return Frame(np.array(picture, order="C"), name, clock_ms())
