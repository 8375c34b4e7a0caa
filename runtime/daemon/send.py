"""The sending daemon: a source and its transmission, for months.

Source -> Transmission      and, each second: state topic, status file, systemd's watchdog
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

from edgesem.errors import EdgesemError
from edgesem.files import write_whole
from runtime.capture.source import Source
from runtime.daemon.sender_metrics import serve_metrics
from runtime.process.signals import stop_on_signals
from runtime.process.systemd import notify
from runtime.protocol.state import State
from runtime.sender.semantic_trigger import watch_of
from runtime.sender.stream_sender import StreamSender
from runtime.settings import SendSettings

log = logging.getLogger(__name__)

_BEAT_S = 1.0
_SILENT_S = 30.0
_LAST_FRAMES_S = 10.0
_LAST_PROMISES_S = 60.0

Tell = Callable[..., None]


def run_send(settings: SendSettings, tell: Tell) -> dict[str, Any]:
    """Send until the source ends or a signal comes; returns the last state. `tell` takes each event as it happens.

    Raises EdgesemError for what must be repaired first; a lost link is none of these.
    """
    with stop_on_signals() as stop, contextlib.ExitStack() as stack:
        daemon = _Daemon(settings, tell, stop, stack)
        try:
            return daemon.run()
        finally:
            notify("STOPPING=1")


class _Daemon:
    def __init__(self, settings: SendSettings, tell: Tell, stop: threading.Event, stack: contextlib.ExitStack) -> None:
        import edgesem

        self._settings = settings
        self._tell = tell
        self._stop = stop
        self._failure: EdgesemError | None = None
        self._source_ended = threading.Event()
        self._frame_s = time.monotonic()
        stream = settings.stream
        self._topics = stream.topics()
        address, key = settings.broker.address(), settings.seal.key()
        identity = settings.monitor.identity(settings.seal.identity_file)
        self._source = Source(settings.source, fps=stream.fps, stop=stop)
        codec = edgesem.load(stream.bundle, threads=stream.threads)
        self._stream_sender = StreamSender(
            address,
            self._topics,
            fps=stream.fps,
            codec=codec,
            max_bytes=stream.max_bytes,
            folder=settings.monitor.folder(),
            spool_bytes=settings.promise.max_bytes,
            identity=identity,
            key=key,
            size=(settings.source.width, settings.source.height),
            tell=tell,
            min_quality=stream.min_quality,
            key_interval_s=stream.key_interval_s,
            most_receivers=stream.most_receivers,
            sharp=stream.prefer == "sharp",
            promise_every=settings.promise.every,
            ack_timeout_s=settings.broker.ack_timeout_s,
            watch=watch_of(settings.watch, codec.bundle, stream.threads),
        )
        stack.callback(self._stream_sender.close)
        self._sender = self._stream_sender.sender

    def run(self) -> dict[str, Any]:
        if self._settings.monitor.metrics:
            serve_metrics(self._settings.monitor.metrics, self._sender, self._topics)
        with self._stream_sender:
            threading.Thread(target=self._capture, name="sender.capture", daemon=True).start()
            self._tell(event="ready", epoch=self._sender.epoch, stream=self._topics.base)
            notify("READY=1")
            self._watch()
        if self._failure is not None:
            raise self._failure
        state = self._sender.state()
        if state.promised_waiting:
            log.info("%d promised frames stay on the disk for the next start", state.promised_waiting)
        self._tell(event="done", **state.as_dict())
        return state.as_dict()

    def _capture(self) -> None:
        """Show the sender each frame; a thread of its own, because a camera may block for ever."""
        all_promised = self._settings.promise.every == 1 and not self._source.continuous
        try:
            for frame in self._source:
                if self._stop.is_set():
                    break
                self._frame_s = time.monotonic()
                if all_promised:
                    self._sender.promise(frame)
                else:
                    self._sender.offer(frame)
        except EdgesemError as error:
            self._failure = error
        except Exception as error:  # a driver's defect must end the daemon with a message, and systemd starts it again
            log.exception("the source failed")
            self._failure = EdgesemError(f"{self._settings.source.uri}: {type(error).__name__}: {error}")
        self._source_ended.set()

    def _watch(self) -> None:
        """Tell the world each second how it goes; until the signal, or until all frames of the source are through."""
        told_s, paused, last = 0.0, False, time.monotonic()
        ended_s, moved_s, waiting = None, 0.0, -1
        while not self._stop.wait(_BEAT_S if ended_s is None else 0.1):
            now_s = time.monotonic()
            state = self._sender.state()
            if now_s - last >= _BEAT_S:
                last = now_s
                self._write_status(state)
                if self._moves(now_s):
                    notify("WATCHDOG=1")
            if now_s - told_s >= self._settings.monitor.state_s or state.paused != paused:
                told_s, paused = now_s, state.paused
                self._stream_sender.tell_state()
            if not self._sender.alive:
                self._failure = EdgesemError("a thread of the sender has ended: see the log above, please report it")
                return
            if self._source_ended.is_set():
                if self._failure is not None:
                    return
                ended_s = now_s if ended_s is None else ended_s
                if state.promised_waiting != waiting:
                    moved_s, waiting = now_s, state.promised_waiting
                patience_s = _LAST_PROMISES_S if waiting else _LAST_FRAMES_S
                if (self._sender.idle and not waiting) or now_s - moved_s > patience_s:
                    return
                if self._settings.promise.linger_s and now_s - ended_s > self._settings.promise.linger_s:
                    return

    def _moves(self, now_s: float) -> bool:
        """Whether frames really move, or could: what systemd's watchdog wants to know."""
        silent = self._source.continuous and now_s - self._frame_s > _SILENT_S
        return self._sender.alive and not silent and now_s - self._sender.beat_s < _SILENT_S

    def _write_status(self, state: State) -> None:
        """$RUNTIME_DIRECTORY/send.json, for whoever looks after the device."""
        folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        if not folder:
            return
        status = {"pid": os.getpid(), "acknowledged": self._sender.counters.acknowledged, **state.as_dict()}
        try:
            write_whole(Path(folder) / "send.json", json.dumps(status).encode())
        except EdgesemError as error:
            log.warning("no status file: %s", error)
