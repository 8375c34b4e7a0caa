"""Sending daemon: frames of a source to a StreamSender; each second the state topic, the status file and the watchdog.

Source -> (capture thread) -> StreamSender
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesem.errors import EdgesemError, LinkError
from edgesem.files import write_whole
from runtime.capture.gpio_line import GpioLine
from runtime.capture.network import without_login
from runtime.capture.source import Source
from runtime.daemon.camera_watch import CameraWatch
from runtime.daemon.send_once import Wake
from runtime.daemon.send_settings import SendSettings
from runtime.daemon.sender_metrics import serve_metrics
from runtime.process.service import Service, running_service
from runtime.protocol.command import MAX_PROMISED_BYTES
from runtime.protocol.state import State
from runtime.protocol.topics import Topics, stream_folder
from runtime.sender.data_budget import DataBudget
from runtime.sender.events import MessageRefused, SenderEvent
from runtime.sender.semantic_trigger import open_trigger
from runtime.sender.stream_sender import StreamSender

log = logging.getLogger(__name__)

_BEAT_S, _WAKE_S = 1.0, 0.05
_SILENT_S = 30.0
_THRIFTY_STATE_S = 300.0  # with a data budget, or while nobody watches: each state costs 250 bytes on the wire
_LAST_FRAMES_S = 10.0
_LAST_PROMISES_S = 60.0
_FIRST_CONNECTION_S = 30.0

OnEvent = Callable[[dict[str, Any]], None]


def run_send(settings: SendSettings, on_event: OnEvent) -> dict[str, Any]:
    """Send until the source ends or a signal comes; returns the last state, after one wake with `left`.

    `on_event` takes {"event": "ready"}, each event of the sender as JSON has it (`SenderEvent.as_dict`), and at the end
    {"event": "done"}, before it {"event": "once"} after one wake; it is called on several threads. Raises EdgesemError
    for what must be repaired first, and if the source fails; a lost link is none of these. A source that ends before
    there was any connection is a LinkError, which says why there was none.
    """
    with running_service() as service, contextlib.closing(_SendDaemon(settings, on_event, service)) as daemon:
        return daemon.run()


def _open_data_budget(settings: SendSettings, topics: Topics) -> DataBudget | None:
    """The account of what the stream costs, on disk; None without a limit."""
    limits = settings.data.limits()
    if limits is None:
        return None
    folder = stream_folder(settings.monitor.folder() / "data", topics)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return DataBudget(limits, folder / "spent.json")


def _told_at_once(state: State) -> tuple[object, ...]:
    """What of a state is published as soon as it changes."""
    limits = state.max_bytes, state.max_rate_bps
    silent = state.silent_s > 0
    return silent, state.paused, state.grey, state.shrunk_percent, state.detail, state.watch, limits, state.live


class _SendDaemon:
    """The parts of a running `edgesem send`."""

    def __init__(self, settings: SendSettings, on_event: OnEvent, service: Service) -> None:
        import edgesem

        self._settings, self._on_event = settings, on_event
        self._service, self._stop = service, service.stop
        self._failure: EdgesemError | None = None
        self._refusal = ""
        """Why the broker has refused a message, the last one."""
        self._source_ended = threading.Event()
        self._watch = CameraWatch()
        stream = settings.stream
        self._topics = stream.topics()
        address, key = settings.broker.addresses(), settings.seal.key()
        identity = settings.monitor.identity(settings.seal.identity_file)
        self._source = Source(settings.source, fps=stream.fps, stop=self._stop)
        codec = edgesem.load(stream.bundle, threads=stream.threads)
        data_budget = _open_data_budget(settings, self._topics)
        self._thrifty = data_budget is not None
        self._stream_sender = StreamSender(
            address,
            self._topics,
            settings.options(),
            codec=codec,
            folder=settings.monitor.folder(),
            identity=identity,
            key=key,
            data_budget=data_budget,
            trigger=open_trigger(settings.watch, codec.bundle, stream.threads),
            on_event=self._take_event,
        )
        self._pipeline = self._stream_sender.pipeline
        self._pipeline.state_interval_s = self._state_s
        self._pipeline.source_state = lambda: {
            "masked": self._source.masked,
            "grey": self._source.grey,
            "left_out": self._source.left_out,
            "silent_s": self._watch.silent_s if self._source.continuous else 0,
            "data": None if data_budget is None else data_budget.usage(),
        }
        self._schedule, self._fps = settings.schedule.schedule(), stream.fps
        self._wake: Wake | None = None
        if settings.once.frames:
            self._wake = Wake(
                settings.once,
                self._pipeline,
                promised=settings.promise.every > 0,
                max_bytes=min(stream.max_bytes, MAX_PROMISED_BYTES),
                period_s=1 / stream.fps,
            )

    @property
    def _camera(self) -> str:
        """The source, as it may be named in a log."""
        return without_login(self._settings.source.uri)

    def _take_event(self, event: SenderEvent) -> None:
        if isinstance(event, MessageRefused):
            self._refusal = f"{event.topic}: {event.reason}"
        if self._wake is not None:
            self._wake.take_event(event)
        self._on_event(event.as_dict())

    def close(self) -> None:
        """Leave the spool whole."""
        self._stream_sender.close()

    def run(self) -> dict[str, Any]:
        """Send; returns the last state."""
        if self._settings.monitor.metrics:
            serve_metrics(self._settings.monitor.metrics, self._pipeline, self._topics)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._stream_sender)
            self._watch_gpio(stack)
            threading.Thread(target=self._capture, name="sender.capture", daemon=True).start()
            self._on_event({"event": "ready", "epoch": self._pipeline.epoch, "stream": self._topics.base})
            self._service.ready()
            if self._wake is None:
                self._supervise()
            else:
                self._wait_for_wake(self._wake)
            trouble = self._stream_sender.connection.trouble  # as it is before we leave
        if self._failure is not None:
            raise self._failure
        state, left = self._pipeline.state(), {}
        if self._wake is not None:
            camera = f"no picture from {self._camera}" if state.silent_s or not self._watch.seen else ""
            report = self._wake.report(trouble or self._refusal or camera)
            self._on_event(report)
            left = {"left": report["left"]}
        else:
            if self._source_ended.is_set() and not self._stop.is_set():
                self._check_delivered(state, trouble)
            if state.promised_waiting:
                log.info("%d promised frames stay on the disk for the next start", state.promised_waiting)
        self._on_event({"event": "done", **state.as_dict()})
        return state.as_dict() | left

    def _check_delivered(self, state: State, trouble: str) -> None:
        """LinkError if the broker took nothing: there was no connection, or it refused what was sent."""
        counters = self._pipeline.counters
        waiting = f"; {state.promised_waiting} promised frames stay on disk" if state.promised_waiting else ""
        broker = self._settings.broker.host
        if not counters.connections:
            reason = trouble or "the source ended before there was a connection"
            raise LinkError(f"nothing was sent to {broker}: {reason}{waiting}")
        if self._refusal and not counters.acknowledged:
            raise LinkError(
                f"{broker} refused {counters.refused} messages, and no receiver has any; the last was {self._refusal}"
                f"; check the broker's ACL and limits{waiting}"
            )

    def _capture(self) -> None:
        """Offer each frame to the sender; on a thread of its own, because a camera may block for ever."""
        all_promised = self._settings.promise.every == 1 and not self._source.continuous
        self._watch.begun()
        try:
            for frame in self._source:
                if self._stop.is_set():
                    break
                self._watch.came()
                if self._wake is not None:
                    self._wake.captured(frame)
                elif all_promised:
                    self._pipeline.promise(frame)
                else:
                    self._pipeline.offer(frame)
        except EdgesemError as error:
            self._failure = error
        except Exception as error:  # a driver's defect must end the daemon with a message, and systemd starts it again
            log.exception("the source failed")
            self._failure = EdgesemError(f"{self._camera}: {type(error).__name__}, see the log")
        self._source_ended.set()

    def _watch_gpio(self, stack: contextlib.ExitStack) -> None:
        """Have the GPIO line that the settings name make events."""
        pin, recorder = self._settings.event.pin(), self._pipeline.recorder
        if pin is not None and recorder is not None:
            label = f"line {pin.line}"
            stack.enter_context(GpioLine(pin, lambda: recorder.seen("gpio", label, begins=True)))

    def _wait_for_wake(self, wake: Wake) -> None:
        """Until the frames of this wake are where they should be, the deadline, the signal, or a failure."""
        wake.ready()
        beat_s = 0.0
        while not self._stop.wait(_WAKE_S) and self._failure is None:
            if wake.step(source_ended=self._source_ended.is_set()):
                return
            self._check_alive()
            if time.monotonic() - beat_s >= _BEAT_S:
                beat_s = time.monotonic()
                self._stream_sender.count_wire()
                self._service.alive()

    @property
    def _state_s(self) -> float:
        """How often the state is published; less often where that would be most of what is sent."""
        viewers = self._pipeline.viewers
        with self._pipeline.publisher.lock:
            thrifty = self._thrifty or (viewers is not None and not viewers.watched)
        return max(self._settings.monitor.state_s, _THRIFTY_STATE_S if thrifty else 0.0)

    def _keep_schedule(self) -> None:
        """Set the frame rate that the schedule has for this time."""
        fps = self._schedule.fps(time.time(), self._settings.stream.fps)
        if fps != self._fps:
            self._fps = fps
            self._pipeline.set_fps(fps)
            log.info("by the schedule, %s from now on", f"{fps:g} frames a second" if fps else "no frames")

    def _supervise(self) -> None:
        """Report each second, until the signal, a failure, or until all frames of the source are through."""
        reported_s, shown, last = 0.0, _told_at_once(self._pipeline.state()), time.monotonic()
        self._keep_schedule()
        ended_s, moved_s, moved = None, 0.0, (-1, 0)
        while not self._stop.wait(_BEAT_S if ended_s is None else 0.1):
            now_s = time.monotonic()
            self._pipeline.state_interval_s = state_s = self._state_s
            state = self._pipeline.state()
            if now_s - last >= _BEAT_S:
                last = now_s
                self._keep_schedule()
                self._stream_sender.count_wire()
                self._write_status(state)
                if self._moves(now_s):
                    self._service.alive()
            seen = _told_at_once(state)
            if seen[0] and not shown[0]:
                log.warning("no picture from %s for %d s", self._camera, state.silent_s)
            elif shown[0] and not seen[0]:
                log.info("pictures come from %s again", self._camera)
            if state.live != shown[-1]:
                log.info("somebody watches: pictures" if state.live == "watched" else "nobody watches: thumbnails")
            if now_s - reported_s >= state_s or seen != shown:
                reported_s, shown = now_s, seen
                self._stream_sender.report_state()
            self._check_alive()
            if self._failure is not None:
                return
            if self._source_ended.is_set():
                ended_s = now_s if ended_s is None else ended_s
                waiting, counters = state.promised_waiting, self._pipeline.counters
                if moved != (waiting, counters.pieces):
                    moved_s, moved = now_s, (waiting, counters.pieces)
                patience_s = _LAST_PROMISES_S if waiting else _LAST_FRAMES_S
                if not counters.connections and not self._stream_sender.connection.trouble:
                    patience_s = max(patience_s, _FIRST_CONNECTION_S)  # it is still being made
                if (self._pipeline.idle and not waiting) or now_s - moved_s > patience_s:
                    return
                if self._settings.promise.linger_s and now_s - ended_s > self._settings.promise.linger_s:
                    return

    def _check_alive(self) -> None:
        if not self._stream_sender.alive:
            self._failure = EdgesemError("a thread of the sender has ended: see the log above, please report it")

    def _moves(self, now_s: float) -> bool:
        """Whether frames really move, or could: what systemd's watchdog is told."""
        silent = self._source.continuous and self._watch.hangs
        return self._stream_sender.alive and not silent and now_s - self._pipeline.beat_s < _SILENT_S

    def _write_status(self, state: State) -> None:
        """Write $RUNTIME_DIRECTORY/send.json, for programs that look after the device."""
        folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if not folder:
            return
        counters, connection = self._pipeline.counters, self._stream_sender.connection
        status = {"pid": os.getpid(), "acknowledged": counters.acknowledged, "user": connection.address.user}
        status |= state.as_dict()
        try:
            write_whole(Path(folder) / "send.json", json.dumps(status).encode())
        except EdgesemError as error:
            log.warning("no status file: %s", error)
