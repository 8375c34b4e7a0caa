"""The receiver as a daemon: pictures to files, to the live page and to Home Assistant, until it is told to end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesem.errors import EdgesemError, InputError
from edgesem.files import write_whole
from edgesem.semantics.embedding import Labels, Query
from runtime.daemon.homeassistant import discovery, jpeg_topic
from runtime.daemon.receiver_metrics import metrics_of
from runtime.mqtt.address import Address
from runtime.process.rate_limit import RateLimitedLog
from runtime.process.signals import stop_on_signals
from runtime.process.systemd import notify
from runtime.protocol.topics import stream_folder
from runtime.receiver.archive import Archive
from runtime.receiver.decoder_process import Drawing
from runtime.receiver.promised_store import PROMISED, frame_name
from runtime.receiver.semantic_filter import LEAST_SCORE, SemanticFilter
from runtime.receiver.sinks import VideoSink, encode_picture
from runtime.receiver.stream import Limits
from runtime.receiver.stream_receiver import Received, StreamReceiver
from runtime.web.gallery import Gallery
from runtime.web.server import Place, Server

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.5
_CONFIRM_S = 10.0
KINDS = ("png", "jpg", "mkv", "none")


@dataclass(frozen=True)
class Plan:
    """What the daemon does with the streams."""

    address: Address
    streams: tuple[str, ...] = ("+/+/+",)
    layers: int = 4
    drawing: Drawing | None = None
    bundle: Path | None = None
    workers: int | None = None
    limits: Limits | None = None
    key: bytes | None = None
    folder: Path | None = None
    kind: str = "png"
    """What ordinary pictures become in the folder: `png`, `jpg`, a video `mkv`, or `none`: promised ones only."""
    http: Place | None = None
    jpeg_topic: bool = False
    home_assistant: str | None = None
    """Prefix of Home Assistant's discovery topics; None: no discovery."""
    archive: Path | None = None
    """Folder of an archive of all packets, for `edgesem search`."""
    only: tuple[str, ...] = ()
    """What a picture must show to be drawn; empty: all are."""
    only_score: float = LEAST_SCORE
    most_pictures: int | None = None
    seconds: float | None = None


def run(plan: Plan, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Receive until SIGTERM, Ctrl-C, or as long as the plan says; `tell` hears of each picture. Returns the figures."""
    started_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        outlets = stack.enter_context(_Outlets(plan, tell))
        archive = None if plan.archive is None else stack.enter_context(Archive(plan.archive))
        only = SemanticFilter(_queries(plan), plan.only_score) if plan.only else None
        stream_receiver = stack.enter_context(
            StreamReceiver(
                plan.address,
                plan.streams,
                on_picture=outlets.take,
                on_forgotten=outlets.forget,
                bundle=plan.bundle,
                layers=plan.layers,
                drawing=plan.drawing,
                workers=plan.workers,
                limits=plan.limits,
                folder=plan.folder,
                key=plan.key,
                archive=archive,
                only=only,
            )
        )
        outlets.stream_receiver = stream_receiver
        url = None
        if plan.http is not None:
            metrics = metrics_of(stream_receiver, outlets.gallery)
            url = stack.enter_context(Server(plan.http, stream_receiver, outlets.gallery, metrics=metrics)).url
            log.info("the live page is at %s", url)
        tell({"event": "ready", "url": url, "max_steps": stream_receiver.max_steps})
        notify("READY=1")
        while not (stop.is_set() or stream_receiver.wait(_LOOK_UP_S)):
            notify("WATCHDOG=1")
            if plan.seconds is not None and time.monotonic() - started_s >= plan.seconds:
                break
        notify("STOPPING=1")
        streams = [
            {"stream": one.name, "pictures": one.pictures, "decode_s": round(one.decode_s, 3)}
            | one.inbox.counters.as_dict()
            for one in stream_receiver.streams.all()
        ]
    return {
        "seconds": round(time.monotonic() - started_s, 2),
        "pictures": outlets.pictures,
        "unwritten": outlets.unwritten,
        "strays": stream_receiver.streams.strays,
        "streams": streams,
    } | ({} if only is None else {"only": only.figures()})


def _queries(plan: Plan) -> list[Query]:
    from edgesem.bundle.bundle import Bundle

    labels = Labels.of(Bundle.open(plan.bundle))
    return [labels.query(text) for text in plan.only]


class _Outlets:
    """Where each picture goes. Called on several threads at once, but for one stream on one at a time."""

    def __init__(self, plan: Plan, tell: Callable[[dict[str, Any]], None]) -> None:
        self.stream_receiver: StreamReceiver | None = None
        self.gallery = Gallery()
        self.pictures = 0
        self.unwritten = 0
        """Pictures that a full disk, or a broker that is gone, did not take."""
        self._plan, self._tell = plan, tell
        self._videos: dict[str, VideoSink] = {}
        self._introduced: dict[str, int] = {}
        """With which connection Home Assistant was told of each stream: a broker may have lost it since."""
        self._publishing_until_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._limited_log = RateLimitedLog(log)

    def __enter__(self) -> _Outlets:
        if self._plan.folder is not None:
            try:
                self._plan.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {self._plan.folder}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for video in self._videos.values():
            video.close()

    def take(self, picture: Received) -> None:
        """Bring a picture to all places."""
        path = None
        try:
            path = self._write(picture)
            if self._plan.http is not None or self._plan.jpeg_topic:
                shown = self.gallery.hang(picture)
                if self._plan.jpeg_topic:
                    self._publish(picture, shown.jpeg)
        except EdgesemError as error:
            self.unwritten += 1
            self._limited_log.warn("%s, frame %d: %s", picture.stream, picture.packet.frame, error)
        packet = picture.packet
        self._tell(
            {
                "event": "picture",
                "stream": picture.stream,
                "epoch": packet.epoch,
                "frame": packet.frame,
                "promised": packet.promised,
                "width": packet.width,
                "height": packet.height,
                "layers": len(packet.chunks),
                "size_bytes": packet.size_bytes,
                "q": packet.q,
                "steps": picture.steps,
                "decode_s": round(picture.decode_s, 4),
                "delay_s": round(picture.delay_s, 3),
                "file": None if path is None else str(path),
            }
        )
        with self._lock:
            self.pictures += 1
            if (
                self._plan.most_pictures is not None
                and self.pictures >= self._plan.most_pictures
                and self.stream_receiver
            ):
                self.stream_receiver.stop()

    def forget(self, stream: str) -> None:
        """Let go of all that is held for a stream that is not received any more."""
        self.gallery.take_down(stream)
        self._introduced.pop(stream, None)
        self._publishing_until_s.pop(stream, None)
        with self._lock:
            video = self._videos.pop(stream, None)
        if video is not None:
            video.close()

    def _write(self, picture: Received) -> Path | None:
        folder, kind = self._plan.folder, self._plan.kind
        if folder is None:
            return None
        packet = picture.packet
        home = stream_folder(folder, picture.topics)
        if packet.promised:
            path = home / PROMISED / f"{frame_name(packet)}.png"
            return _store(path, encode_picture(picture.image, "png", picture.drawn))
        if kind == "mkv":
            with self._lock:
                video = self._videos.setdefault(picture.stream, VideoSink(home / "video.mkv"))
            return video.write(picture.image, time.time() - picture.delay_s)
        if kind == "none":
            return None
        return _store(home / f"{frame_name(packet)}.{kind}", encode_picture(picture.image, kind, picture.drawn))

    def _publish(self, picture: Received, jpeg: bytes) -> None:
        """Put the picture on its stream's JPEG topic, unless the broker has not taken the one before yet."""
        if self.stream_receiver is None:
            return
        connection, stream, now_s = self.stream_receiver.connection, picture.stream, time.monotonic()
        if now_s < self._publishing_until_s.get(stream, 0.0):
            return
        number = connection.reconnects
        if self._plan.home_assistant is not None and self._introduced.get(stream) != number:
            connection.publish(*discovery(picture.topics, self._plan.home_assistant), retain=True)
            self._introduced[stream] = number
        self._publishing_until_s[stream] = now_s + _CONFIRM_S

        def confirmed() -> None:
            self._publishing_until_s.pop(stream, None)

        # Retained: who comes later sees the latest picture at once.
        connection.publish(jpeg_topic(picture.topics), jpeg, retain=True, confirm=confirmed)


def _store(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {path.parent}: {error.strerror}") from error
    write_whole(path, data)
    return path
