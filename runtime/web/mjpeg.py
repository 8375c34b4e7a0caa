"""Video of a stream for other players (FFmpeg, VLC, go2rtc, browsers): MJPEG over HTTP, as multipart/x-mixed-replace.

Each part is a whole JPEG file with its length, and the boundary follows at once, for readers that look for it. Players
end a video that is silent for some seconds, so the newest picture is sent again when nothing newer has come. The first
time soon: Chromium shows a picture when the next part begins, and at a frame a minute that would be a minute late.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgesem.errors import UsageError
from runtime.web.gallery import Gallery, LatestPicture

REPEAT_S = 5.0
"""Seconds after which the newest picture is sent again by default: half of the shortest time-out of a player."""
_FIRST_REPEAT_S = 0.5
DRAW_S = 10.0
"""A picture that was skipped, as nobody looked, is waited for so long: less than a client waits."""
LONGEST_REPEAT_S = 10.0
_SHORTEST_REPEAT_S = 0.1
_LONGEST_AGE_S = 86400.0
_UNREAD_BYTES = 256 << 10
_UNCONFIRMED_S = 30.0
_BOUNDARY = "edgesem-picture"
CONTENT_TYPE = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"


@dataclass(frozen=True)
class VideoOptions:
    """What a player asks for in the query of its URL."""

    repeat_s: float = REPEAT_S
    """Seconds after which the newest picture is sent again and again, 0.1 to 10."""
    max_age_s: float = float("inf")
    """Age in seconds, above which a picture is no picture: the video ends."""

    @classmethod
    def from_query(cls, asked: Mapping[str, Sequence[str]]) -> VideoOptions:
        """Those of `?repeat=SECONDS&max_age=SECONDS`. UsageError where a value cannot be."""
        return cls(
            _seconds(asked, "repeat", _SHORTEST_REPEAT_S, LONGEST_REPEAT_S, cls.repeat_s),
            _seconds(asked, "max_age", 1.0, _LONGEST_AGE_S, cls.max_age_s),
        )

    def shows(self, picture: LatestPicture) -> bool:
        """Whether a picture is young enough."""
        return picture.age_s <= self.max_age_s


def bound_unread(connection: socket.socket) -> None:
    """Have a reader that reads no more, or is gone without a word (a phone out of reach), noticed soon.

    As long as it counts as a viewer, a sender on demand sends pictures for it. The system's own buffer takes minutes of
    them, and it waits a quarter of an hour for an answer.
    """
    with contextlib.suppress(OSError, AttributeError):  # a system other than Linux has no such time
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * _UNCONFIRMED_S))


def parts(
    gallery: Gallery, stream: str, options: VideoOptions, ask: Callable[[], object] = lambda: False
) -> Iterator[bytes]:
    """What to send, a picture at a time: each new one, again after half a second, then each `options.repeat_s`.

    `ask` has the newest picture drawn, if it was skipped, and says whether it will be. Ends when that takes too long,
    the stream is gone, its newest picture is older than `options.max_age_s`, or the gallery is closed.
    """
    yield f"--{_BOUNDARY}\r\n".encode()
    number, wait_s = 0, 0.0
    while not gallery.closed:
        latest = gallery.wait_for_next(stream, number, wait_s) or gallery.latest(stream)
        if latest is None or not options.shows(latest):
            return
        if not latest.jpeg and (latest := gallery.drawn(stream, ask, DRAW_S)) is None:
            return
        is_new, number = latest.number != number, latest.number
        wait_s = min(options.repeat_s, _FIRST_REPEAT_S) if is_new else options.repeat_s
        captured_s = time.time() - latest.age_s
        head = (
            f"Content-Type: image/jpeg\r\nContent-Length: {len(latest.jpeg)}\r\nX-Timestamp: {captured_s:.3f}\r\n\r\n"
        )
        yield head.encode() + latest.jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()


def _seconds(asked: Mapping[str, Sequence[str]], name: str, least: float, most: float, default: float) -> float:
    if name not in asked:
        return default
    try:
        value = float(asked[name][0])
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UsageError(f"{name} must be {least:g} to {most:g} seconds")
    return value
