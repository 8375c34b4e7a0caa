"""Outputs of the receiving daemon: each picture goes to a file, to the live page, and to its stream's JPEG topic."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesem.errors import EdgesemError, InputError
from edgesem.files import write_whole
from edgesem.packet.packet import Packet
from runtime.daemon.picture_quota import PictureQuota
from runtime.daemon.receive_settings import OutSettings
from runtime.process.rate_limit import RateLimitedLog
from runtime.protocol.topics import stream_folder
from runtime.receiver.promised_store import FILE_MODE, kept_path
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.sinks import VideoSink, encode_picture
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.receiver.undrawn import frame_name
from runtime.web.gallery import Gallery

if TYPE_CHECKING:
    from runtime.daemon.event_outputs import EventOutputs
    from runtime.daemon.homeassistant import HomeAssistant

log = logging.getLogger(__name__)

_CONFIRM_S = 10.0
"""A picture on the JPEG topic is waited for so long before the next is published."""


class PictureOutputs:
    """Outputs of the receiving daemon. Thread-safe, but for one stream on one thread at a time.

    Call `attach` before the first picture. A full disk or a lost broker costs a counter, never an exception but for a
    promised frame: the receiver notes that it was not written.
    """

    def __init__(
        self,
        settings: OutSettings,
        on_event: Callable[[dict[str, Any]], None],
        *,
        max_pictures: int | None = None,
        home_assistant: HomeAssistant | None = None,
    ) -> None:
        self.receiver: StreamReceiver | None = None
        self.gallery = Gallery()
        self.pictures = 0
        self.unwritten = 0
        """Pictures that a full disk or a lost broker did not take."""
        self.events: EventOutputs | None = None
        """Clips of events; None where nothing is kept."""
        self.home_assistant = home_assistant
        self._settings, self._on_event, self._max_pictures = settings, on_event, max_pictures
        self._quotas: tuple[PictureQuota, ...] = ()
        """Of ordinary pictures, and of promised frames."""
        if settings.folder is not None:
            ages_s = settings.max_ages_s()
            self._quotas = (
                PictureQuota(
                    settings.folder,
                    max_bytes=settings.max_bytes,
                    free_bytes=settings.free_bytes,
                    max_age_s=ages_s[0],
                ),
                PictureQuota(
                    settings.folder,
                    max_bytes=settings.promised_max_bytes,
                    free_bytes=0,  # with less free on the disk, a promised frame is not taken: its sender keeps it
                    max_age_s=ages_s[1],
                    promised=True,
                    on_deleted=self._forget_promised,
                ),
            )
        self._videos: dict[str, OrderedDict[int | None, VideoSink]] = {}
        """Of each stream one; two by their epochs, while two senders share the name."""
        self._publishing_until_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._limited_log = RateLimitedLog(log)

    def __enter__(self) -> PictureOutputs:
        if self._settings.folder is not None:
            _make_folder(self._settings.folder)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in list(self._videos):
            self._finish_videos(stream)

    def attach(self, receiver: StreamReceiver) -> None:
        """The receiver whose pictures come here."""
        self.receiver = receiver
        if self.home_assistant is not None:
            self.home_assistant.receiver, self.home_assistant.gallery = receiver, self.gallery

    def put(self, picture: ReceivedPicture) -> None:
        """Write, show and publish a picture, and report it as an event.

        Raises EdgesemError if a promised picture was not written.
        """
        out, path, failure = self._settings, None, None
        picture = picture.stamped(out.stamp) if picture.drawn else picture
        jpeg_wanted = out.jpeg_topic or out.home_assistant
        if self.events is not None:
            self.events.add(picture)
        try:
            path = self._write(picture)
        except EdgesemError as error:
            failure = error
        try:
            if out.http or jpeg_wanted:
                latest = self.gallery.put(picture)
                if jpeg_wanted and self.gallery.latest(picture.stream) is latest:  # not one from before an event
                    self._publish(picture, latest.jpeg)
        except EdgesemError as error:
            failure = failure or error
        file = None if path is None else str(path)
        told = {**asdict(picture.info), "drawn": picture.drawn, "file": file}
        self.report({"event": "picture", "stream": picture.stream, **told})
        with self._lock:
            self.pictures += 1
            self.unwritten += failure is not None
            if self._max_pictures is not None and self.pictures >= self._max_pictures and self.receiver:
                self.receiver.stop()
        if failure is not None:
            if picture.packet.promised and path is None and out.folder is not None:
                raise failure
            self._limited_log.warn("%s, frame %d: %s", picture.stream, picture.packet.frame, failure)

    def needs_image(self, stream: str, packet: Packet) -> bool:
        """Whether the picture of a packet goes anywhere: to a file, a topic, or a page that somebody looks at."""
        out, side_info = self._settings, packet.side_info
        if packet.promised or side_info.event is not None or side_info.detail is not None:
            return True
        if out.jpeg_topic or out.home_assistant or out.kind not in ("archive", "none"):
            return True
        looked_at = self.receiver is None or self.receiver.viewing.is_looked_at(stream)
        return looked_at or self.gallery.is_awaited(stream)

    def show(self, picture: ReceivedPicture) -> None:
        """Take the image of a picture that was put without one, because nobody needed it then."""
        self.gallery.show(picture.stamped(self._settings.stamp))

    @property
    def deleted(self) -> int:
        """Files that were deleted, because they were too old or to make room for others."""
        return sum(quota.deleted for quota in self._quotas)

    def tidy(self) -> None:
        """Delete what is too old or beyond its quota; may look through the folder."""
        for quota in self._quotas:
            quota.tidy()

    def count_promised(self, size_bytes: int) -> None:
        """Count a file that was made of promised frames."""
        if self._quotas:
            self._quotas[1].add(size_bytes)

    def _forget_promised(self, path: Path, size_bytes: int) -> None:
        if self.events is not None and path.resolve().is_relative_to(self.events.store.folder):
            self.events.store.forget(path.resolve())
        elif self.receiver is not None:
            self.receiver.forget_promised(path, size_bytes)

    def report(self, event: dict[str, Any]) -> None:
        """Hand an event to the caller, whose defects cost the event alone."""
        try:
            self._on_event(event)
        except BrokenPipeError:  # who read our events has gone
            if self.receiver is not None:
                self.receiver.stop()
        except Exception:
            self._limited_log.warn("an event could not be told", exc_info=True)

    def forget(self, stream: str) -> None:
        """Release all that is held for a stream that is not received any more."""
        self.gallery.remove(stream)
        if self.home_assistant is not None:
            self.home_assistant.remove(stream)
        self._publishing_until_s.pop(stream, None)
        self._finish_videos(stream)

    def _finish_videos(self, stream: str) -> None:
        with self._lock:
            videos = self._videos.pop(stream, None)
        for video in () if videos is None else videos.values():
            self._finish(video)

    def _video(self, picture: ReceivedPicture) -> VideoSink:
        """The video that a picture goes to."""
        stream = None if self.receiver is None else self.receiver.streams.find(picture.stream)
        sender = picture.packet.epoch if stream is not None and stream.has_two_senders else None
        assert self._settings.folder is not None
        home = stream_folder(self._settings.folder, picture.topics)
        with self._lock:
            videos = self._videos.setdefault(picture.stream, OrderedDict())
            video = videos.setdefault(sender, VideoSink(home / "video.mkv"))
            videos.move_to_end(sender)
            ended = [videos.popitem(last=False)[1] for _ in range(len(videos) - (1 if sender is None else 2))]
        for one in ended:
            self._finish(one)
        return video

    def _write_video(self, picture: ReceivedPicture) -> Path:
        video = self._video(picture)
        last, last_bytes = video.file, _size_bytes(video.file)
        path = video.write(picture.image, time.time() - picture.delay_s)
        grown_bytes = _size_bytes(last) - last_bytes + (0 if path == last else _size_bytes(path))
        self._quotas[0].add(max(0, grown_bytes))
        return path

    def _finish(self, video: VideoSink) -> None:
        try:
            video.close()
        except EdgesemError as error:
            log.warning("%s", error)

    def _write(self, picture: ReceivedPicture) -> Path | None:
        folder, kind = self._settings.folder, self._settings.kind
        if folder is None:
            return None
        packet = picture.packet
        home = stream_folder(folder, picture.topics)
        if packet.promised and packet.side_info.event is not None:
            return None  # its event has a clip
        if packet.promised:
            path = kept_path(folder, picture.topics, packet).with_suffix(".png")
            data = encode_picture(picture.image, "png", picture.provenance)
            self._store(path, data)
            self._quotas[1].add(len(data) + packet.size_bytes)
            return path
        if kind in ("archive", "none"):
            return None
        if not self._quotas[0].make_room():
            raise InputError(
                f"{folder}: no room for ordinary pictures, which is left to promised ones: make room, or leave less "
                "free (out.free_bytes, --free-bytes)"
            )
        if kind == "mkv":
            return self._write_video(picture)
        path = home / f"{frame_name(packet)}.{kind}"
        data = encode_picture(picture.image, kind, picture.provenance)
        self._store(path, data)
        self._quotas[0].add(len(data))
        return path

    def _store(self, path: Path, data: bytes) -> Path:
        _make_folder(path.parent)
        write_whole(path, data, mode=FILE_MODE)
        return path

    def _publish(self, picture: ReceivedPicture, jpeg: bytes) -> None:
        """Publish on the stream's JPEG topic, unless the broker has not confirmed the picture before yet."""
        if self.receiver is None:
            return
        from runtime.daemon.homeassistant_device import jpeg_topic

        connection, stream, now_s = self.receiver.connection, picture.stream, time.monotonic()
        if now_s < self._publishing_until_s.get(stream, 0.0):
            return
        if self.home_assistant is not None:
            self.home_assistant.add(stream, picture.topics)
        self._publishing_until_s[stream] = now_s + _CONFIRM_S

        def confirmed() -> None:
            self._publishing_until_s.pop(stream, None)

        # Retained: who subscribes later gets the latest picture at once.
        try:
            connection.publish(jpeg_topic(picture.topics), jpeg, retain=True, confirm=confirmed)
        except EdgesemError:
            confirmed()  # nothing is under way: the next picture is not left out for it
            raise


def _size_bytes(path: Path | None) -> int:
    """Size of a file; 0 if there is none."""
    return path.stat().st_size if path is not None and path.exists() else 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {folder}: {error.strerror}") from error
