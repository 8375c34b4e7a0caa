"""The sending daemon: a source, a sender and a connection, for months.

Source -> Sender -> Connection      and, each second: state topic, status file, systemd's watchdog
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.errors import EdgesemError, LinkError
from edgesem.files import write_whole
from edgesem.seal import Seal, new_salt
from runtime.birth import Birth
from runtime.capture import MIN_SIDE
from runtime.control import Control
from runtime.metrics import serve_metrics
from runtime.mqtt import Connection
from runtime.notify import notify
from runtime.sender import Sender
from runtime.settings import SendSettings
from runtime.signals import stop_on_signals
from runtime.source import Source
from runtime.spool import Spool
from runtime.state import State
from runtime.topics import stream_folder
from runtime.watch import watch_of

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
        self._topics = topics = stream.topics()
        address = settings.broker.address()
        key = settings.seal.key()
        self._identity = settings.monitor.identity(settings.seal.identity_file)
        self._salt = new_salt()
        self._source = Source(settings.source, fps=stream.fps, stop=stop)
        self._codec = edgesem.load(stream.bundle, threads=stream.threads)
        path = stream_folder(settings.monitor.folder() / "spool", topics) / "promised.sqlite"
        spool = Spool(path, max_bytes=settings.promise.max_bytes)
        stack.callback(spool.close)
        self._sender = Sender(
            codec=self._codec,
            topics=topics,
            control=Control(
                interval_s=1 / stream.fps,
                max_bytes=stream.max_bytes,
                unacked_bytes=lambda: self._connection.unacked_bytes(),
            ),
            publish=lambda topic, payload, confirm: self._connection.publish(topic, payload, confirm=confirm),
            tell=tell,
            spool=spool,
            seal=None if key is None else Seal(key, stream=topics.base, salt=self._salt),
            min_quality=stream.min_quality,
            key_interval_s=stream.key_interval_s,
            most_receivers=stream.most_receivers,
            sharp=stream.prefer == "sharp",
            promise_every=settings.promise.every,
            ack_timeout_s=settings.broker.ack_timeout_s,
            stuck=lambda reason: self._connection.reconnect(reason),
            watch=watch_of(settings.watch, self._codec.bundle, stream.threads),
        )
        self._sealed = key is not None
        gone = State(up=False, epoch=self._sender.epoch, time_ms=time.time_ns() // 1_000_000)
        self._connection = Connection(
            address,
            name="sender",
            subscribe=(topics.ack, topics.cmd),
            on_message=self._sender.on_message,
            on_up=self._up,
            on_down=lambda _: self._sender.disconnected(),
            will=(topics.state, gone.to_bytes()),
            patient=True,
        )

    def run(self) -> dict[str, Any]:
        if self._settings.monitor.metrics:
            serve_metrics(self._settings.monitor.metrics, self._sender, self._topics)
        # Loads the networks: the first frame shall not wait for that.
        self._codec.pack(self._codec.analyze(np.zeros((MIN_SIDE, MIN_SIDE, 3), np.uint8)), quality=0)
        with self._sender, self._connection:
            threading.Thread(target=self._capture, name="sender.capture", daemon=True).start()
            self._tell(event="ready", epoch=self._sender.epoch, stream=self._topics.base)
            notify("READY=1")
            self._watch()
            self._say_goodbye()
        if self._failure is not None:
            raise self._failure
        return self._sender.state().as_dict()

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
        ended_s, waiting = None, -1
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
                self._publish_state(state)
            if not self._sender.alive:
                self._failure = EdgesemError("a thread of the sender has ended: see the log above, please report it")
                return
            if self._source_ended.is_set():
                if self._failure is not None:
                    return
                if ended_s is None or state.promised_waiting != waiting:
                    ended_s, waiting = now_s, state.promised_waiting
                patience_s = _LAST_PROMISES_S if waiting else _LAST_FRAMES_S
                if (self._sender.idle and not waiting) or now_s - ended_s > patience_s:
                    return

    def _moves(self, now_s: float) -> bool:
        """Whether frames really move, or could: what systemd's watchdog wants to know."""
        silent = self._source.continuous and now_s - self._frame_s > _SILENT_S
        return self._sender.alive and not silent and now_s - self._sender.beat_s < _SILENT_S

    def _up(self) -> None:
        """On each new connection: say who we are, before anything else."""
        settings, bundle = self._settings, self._codec.bundle
        birth = Birth(
            bundle_id=bundle.id,
            bundle_digest=bundle.digest[:64],
            width=settings.source.width,
            height=settings.source.height,
            fps=settings.stream.fps,
            epoch=self._sender.epoch,
            salt=self._salt,
            time_ms=time.time_ns() // 1_000_000,
            sealed=self._sealed,
            program="edgesem",
        )
        with contextlib.suppress(LinkError):  # lost again already; the next connection says it
            data = birth.to_bytes(self._identity, base=self._topics.base)
            self._connection.publish(self._topics.birth, data, retain=True)
            self._sender.connected(self._connection.rtt_s)
            self._publish_state(self._sender.state())

    def _publish_state(self, state: State) -> None:
        self._tell(event="state", **state.as_dict())
        with contextlib.suppress(LinkError):
            self._connection.publish(self._topics.state, state.to_bytes(), qos=0, retain=True)

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

    def _say_goodbye(self) -> None:
        """The state says that we went in peace; promised frames stay on the disk."""
        told = threading.Event()
        state = replace(self._sender.state(), up=False)
        with contextlib.suppress(LinkError):
            self._connection.publish(self._topics.state, state.to_bytes(), retain=True, confirm=told.set)
            told.wait(_BEAT_S)
