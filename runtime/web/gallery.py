"""Gallery of the live page: the latest picture of each stream, as a JPEG file."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from runtime.receiver.received_picture import PictureInfo, ReceivedPicture
from runtime.receiver.sinks import encode_picture

_MAX_FOLLOWERS = 32


@dataclass(frozen=True)
class LatestPicture:
    """A stream's latest picture."""

    number: int
    """Counts the pictures of the stream: another number is another picture."""
    jpeg: bytes
    """Empty while it is not drawn, because nobody looks."""
    info: PictureInfo
    shown_s: float
    """When it came, by the monotonic clock."""

    @property
    def age_s(self) -> float:
        """Seconds since its capture, as far as sender's and receiver's clocks agree."""
        return max(0.0, self.info.delay_s) + time.monotonic() - self.shown_s


class Gallery:
    """The latest picture of each stream. Thread-safe. A promised picture never replaces one that was captured later."""

    def __init__(self) -> None:
        self.followers = threading.BoundedSemaphore(_MAX_FOLLOWERS)
        """Of those who wait for each new picture."""
        self._latest: dict[str, LatestPicture] = {}
        self._promised: dict[str, LatestPicture] = {}
        self._details: dict[str, LatestPicture] = {}
        self._awaited: Counter[str] = Counter()
        """How many wait until the latest picture of a stream is drawn."""
        self._changed = threading.Condition()
        self._closed = False

    def put(self, picture: ReceivedPicture) -> LatestPicture:
        """Show a picture as the latest of its stream, or as its latest detail, and return it as JPEG."""
        jpeg = encode_picture(picture.image, "jpg", picture.provenance) if picture.drawn else b""
        with self._changed:
            if picture.packet.side_info.detail is not None:
                known = self._details.get(picture.stream)
                number = known.number + 1 if known else 1
                detail = LatestPicture(number, jpeg, picture.info, shown_s=time.monotonic())
                self._details[picture.stream] = detail
                return detail
            before = self._latest.get(picture.stream)
            number = before.number + 1 if before else 1
            latest = LatestPicture(number, jpeg, picture.info, shown_s=time.monotonic())
            if before is None or not latest.info.promised or before.age_s >= latest.age_s:
                self._latest[picture.stream] = latest
                self._changed.notify_all()
            if latest.info.promised and picture.packet.side_info.event is None:
                shown = self._promised.get(picture.stream)
                if shown is None or shown.age_s >= latest.age_s:
                    self._promised[picture.stream] = latest
        return latest

    def show(self, picture: ReceivedPicture) -> None:
        """Take the image of a picture that was put without one, if it still is the latest of its stream."""
        jpeg = encode_picture(picture.image, "jpg", picture.provenance)
        with self._changed:
            latest = self._latest.get(picture.stream)
            frame = picture.packet.epoch, picture.packet.frame
            if latest is not None and not latest.jpeg and (latest.info.epoch, latest.info.frame) == frame:
                info = replace(latest.info, steps=picture.info.steps, decode_s=picture.info.decode_s)
                self._latest[picture.stream] = replace(latest, jpeg=jpeg, info=info)
                self._changed.notify_all()

    def drawn(self, stream: str, ask: Callable[[], object], timeout_s: float) -> LatestPicture | None:
        """The latest picture of a stream once it is drawn, for which `ask` is called, which says whether it will be.

        None if it will not, if that takes too long, if the stream is gone, or after `close`.
        """
        with self._changed:
            self._awaited[stream] += 1
        try:
            timeout_s = timeout_s if ask() else 0.0
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._is_drawn(stream), timeout_s)
                latest = self._latest.get(stream)
                return latest if latest is not None and latest.jpeg and not self._closed else None
        finally:
            with self._changed:
                self._awaited[stream] -= 1
                if not self._awaited[stream]:
                    del self._awaited[stream]

    def is_awaited(self, stream: str) -> bool:
        """Whether somebody waits until the latest picture of a stream is drawn."""
        with self._changed:
            return stream in self._awaited

    def remove(self, stream: str) -> None:
        """Show nothing more of a stream."""
        with self._changed:
            self._latest.pop(stream, None)
            self._promised.pop(stream, None)
            self._details.pop(stream, None)
            self._changed.notify_all()

    def latest(self, stream: str) -> LatestPicture | None:
        """The latest picture of a stream, or None."""
        return self._latest.get(stream)

    def latest_promised(self, stream: str) -> LatestPicture | None:
        """The promised picture of a stream that was captured last, or None: a snapshot that was asked for."""
        return self._promised.get(stream)

    def latest_detail(self, stream: str) -> LatestPicture | None:
        """The detail that came last, a part of a stream's picture that somebody has asked for; or None."""
        return self._details.get(stream)

    def wait_for_next(self, stream: str, number: int, timeout_s: float) -> LatestPicture | None:
        """Wait for a picture that is drawn and has a number other than `number`.

        None if there is none in time, if the stream is gone, or after `close`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_other(stream, number), timeout_s)
            return self._latest.get(stream) if not self._closed and self._has_other(stream, number) else None

    @property
    def closed(self) -> bool:
        """Whether no more pictures will come."""
        return self._closed

    def close(self) -> None:
        """Let all return who wait for a picture."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _is_drawn(self, stream: str) -> bool:
        """Whether there is nothing to wait for, also because the stream is gone."""
        latest = self._latest.get(stream)
        return latest is None or bool(latest.jpeg)

    def _has_other(self, stream: str, number: int) -> bool:
        latest = self._latest.get(stream)
        return number != 0 if latest is None else latest.number != number and bool(latest.jpeg)
