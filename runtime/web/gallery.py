"""Gallery of the live page: the latest picture of each stream, as a JPEG file."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from runtime.receiver.received_picture import PictureInfo, ReceivedPicture
from runtime.receiver.sinks import encode_picture

_MAX_FOLLOWERS = 32


@dataclass(frozen=True)
class LatestPicture:
    """A stream's latest picture."""

    number: int
    """Counts the pictures of the stream: another number is another picture."""
    jpeg: bytes
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
        self._changed = threading.Condition()
        self._closed = False

    def put(self, picture: ReceivedPicture) -> LatestPicture:
        """Show a picture as the latest of its stream, or as its latest detail, and return it as JPEG."""
        jpeg = encode_picture(picture.image, "jpg", picture.provenance)
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
        """Wait for a picture with a number other than `number`; None if there is none in time, or after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number(stream) != number, timeout_s)
            return self._latest.get(stream) if not self._closed and self._number(stream) != number else None

    @property
    def closed(self) -> bool:
        """Whether no more pictures will come."""
        return self._closed

    def close(self) -> None:
        """Let all return who wait for a picture."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _number(self, stream: str) -> int:
        latest = self._latest.get(stream)
        return latest.number if latest else 0
