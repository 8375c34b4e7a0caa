"""Outputs of the receiving daemon: each picture goes to a file, to the live page, and to its stream's JPEG topic."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesem.errors import EdgesemError, InputError
from edgesem.files import write_whole
from runtime.daemon.homeassistant import discovery, jpeg_topic
from runtime.daemon.receive_settings import OutSettings
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import stream_folder
from runtime.receiver.promised_store import PROMISED, frame_name
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.sinks import VideoSink, encode_picture
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery

log = logging.getLogger(__name__)

_CONFIRM_S = 10.0
"""A picture on the JPEG topic is waited for so long before the next is published."""


class PictureOutputs:
    """Outputs of the receiving daemon. Thread-safe, but for one stream on one thread at a time.

    Set `receiver` before the first picture. A full disk or a lost broker costs a counter, never an exception.
    """

    def __init__(
        self, settings: OutSettings, on_event: Callable[[dict[str, Any]], None], *, max_pictures: int | None = None
    ) -> None:
        self.receiver: StreamReceiver | None = None
        self.gallery = Gallery()
        self.pictures = 0
        self.unwritten = 0
        """Pictures that a full disk or a lost broker did not take."""
        self._settings, self._on_event, self._max_pictures = settings, on_event, max_pictures
        self._videos: dict[str, VideoSink] = {}
        self._announced: dict[str, int] = {}
        """Number of the connection on which Home Assistant was told of each stream: a broker may have lost it since."""
        self._publishing_until_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._limited_log = RateLimitedLog(log)

    def __enter__(self) -> PictureOutputs:
        if self._settings.folder is not None:
            _make_folder(self._settings.folder)
        return self

    def __exit__(self, *_: object) -> None:
        for video in self._videos.values():
            video.close()

    def put(self, picture: ReceivedPicture) -> None:
        """Write, show and publish a picture, and report it as an event."""
        out, path = self._settings, None
        jpeg_wanted = out.jpeg_topic or out.home_assistant
        try:
            path = self._write(picture)
            if out.http or jpeg_wanted:
                latest = self.gallery.put(picture)
                if jpeg_wanted:
                    self._publish(picture, latest.jpeg)
        except EdgesemError as error:
            self.unwritten += 1
            self._limited_log.warn("%s, frame %d: %s", picture.stream, picture.packet.frame, error)
        file = None if path is None else str(path)
        self._on_event({"event": "picture", "stream": picture.stream, **asdict(picture.info), "file": file})
        with self._lock:
            self.pictures += 1
            if self._max_pictures is not None and self.pictures >= self._max_pictures and self.receiver:
                self.receiver.stop()

    def forget(self, stream: str) -> None:
        """Release all that is held for a stream that is not received any more."""
        self.gallery.remove(stream)
        self._announced.pop(stream, None)
        self._publishing_until_s.pop(stream, None)
        with self._lock:
            video = self._videos.pop(stream, None)
        if video is not None:
            video.close()

    def _write(self, picture: ReceivedPicture) -> Path | None:
        folder, kind = self._settings.folder, self._settings.kind
        if folder is None:
            return None
        packet = picture.packet
        home = stream_folder(folder, picture.topics)
        if packet.promised:
            path = home / PROMISED / f"{frame_name(packet)}.png"
            return _store(path, encode_picture(picture.image, "png", picture.provenance))
        if kind == "mkv":
            with self._lock:
                video = self._videos.setdefault(picture.stream, VideoSink(home / "video.mkv"))
            return video.write(picture.image, time.time() - picture.delay_s)
        if kind == "none":
            return None
        return _store(home / f"{frame_name(packet)}.{kind}", encode_picture(picture.image, kind, picture.provenance))

    def _publish(self, picture: ReceivedPicture, jpeg: bytes) -> None:
        """Publish on the stream's JPEG topic, unless the broker has not confirmed the picture before yet."""
        if self.receiver is None:
            return
        connection, stream, now_s = self.receiver.connection, picture.stream, time.monotonic()
        if now_s < self._publishing_until_s.get(stream, 0.0):
            return
        number = connection.reconnects
        if self._settings.home_assistant and self._announced.get(stream) != number:
            connection.publish(*discovery(picture.topics, self._settings.home_assistant_prefix), retain=True)
            self._announced[stream] = number
        self._publishing_until_s[stream] = now_s + _CONFIRM_S

        def confirmed() -> None:
            self._publishing_until_s.pop(stream, None)

        # Retained: who subscribes later gets the latest picture at once.
        connection.publish(jpeg_topic(picture.topics), jpeg, retain=True, confirm=confirmed)


def _store(path: Path, data: bytes) -> Path:
    _make_folder(path.parent)
    write_whole(path, data)
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from error
