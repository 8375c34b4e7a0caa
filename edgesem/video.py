"""Reader of video files: frames with their times, all of them, at a rate, or spread over the file.

It needs PyAV (the extra `video`), which is imported when a file is opened.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, require

VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")

_SLACK_S = 1e-3  # containers round times to milliseconds
_NO_TIMES, _TIMES_MAY_JUMP = 0x80, 0x200  # FFmpeg's AVFMT_NOTIMESTAMPS and AVFMT_TS_DISCONT
_JUMP_S = 10.0  # what FFmpeg takes for a jump of the clock
_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M"}  # ITU-T H.273, and PyAV's names
_UNSPECIFIED, _FULL_RANGE = 2, 2
_HD_LINES = 720
_MAX_ASPECT = 8
_MAX_REORDERED = 64  # packets that a decoder may hold back

log = logging.getLogger(__name__)


class VideoInfo(NamedTuple):
    """Properties of a video, from the headers of its file; None where they do not tell."""

    rate_hz: float | None
    """Mean frame rate."""
    duration_s: float | None


class VideoFrame:
    """One decoded frame as a browser shows it. RGB is made of it when that is asked for: one left out costs little.

    picture: PyAV's frame. aspect: width of a pixel over its height, if it is not 1. Rotation, pixel aspect and colour
    matrix are applied; where the video names no matrix, it is BT.709 from 720 lines on, else BT.601.
    """

    def __init__(self, picture: Any, time_s: float, aspect: Fraction | None = None) -> None:
        self._picture = picture
        self.time_s = time_s
        """Presentation time, in seconds from the first frame of the video."""
        self._turns = _turns(picture)
        width, height = _undistorted(picture.width, picture.height, aspect)
        self.width, self.height = (height, width) if self._turns.swap else (width, height)
        """Size as shown, in pixels."""

    def rgb(self, width: int | None = None, height: int | None = None) -> npt.NDArray[np.uint8]:
        """The frame as uint8 [H, W, 3], RGB; scaled if a size is given, which is that of the upright frame."""
        size = (width or self.width, height or self.height)
        columns, rows = size[::-1] if self._turns.swap else size
        named = int(self._picture.colorspace)
        guessed = 1 if self._picture.height >= _HD_LINES else 5
        matrix = _MATRICES.get(guessed if named == _UNSPECIFIED else named)
        # RGB has no matrix, but older PyAV heeds that of the source only where it is named another one, then forgets
        # the range of its values.
        other = None if matrix is None else "ITU601" if matrix == "ITU709" else "ITU709"
        ranges: dict[str, str] = {}
        if self._picture.color_range == _FULL_RANGE:
            ranges = {"src_color_range": "JPEG", "dst_color_range": "JPEG"}
        scaled = self._picture.reformat(
            width=columns, height=rows, format="rgb24", src_colorspace=matrix, dst_colorspace=other, **ranges
        )
        array: npt.NDArray[np.uint8] = scaled.to_ndarray()
        return self._turns.apply(array)


class _Turns(NamedTuple):
    """A turn by quarters, and mirrors: the axes are swapped first."""

    swap: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if not any(self):
            return rgb
        turned = rgb.transpose(1, 0, 2) if self.swap else rgb
        return np.ascontiguousarray(turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def _turns(picture: Any) -> _Turns:
    """What the display matrix of a frame asks for, to the nearest quarter turn (ISO/IEC 14496-12, 6.2.2)."""
    for item in picture.side_data:
        if item.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("<9i", bytes(item)[:36])
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return _Turns(False, a < 0, d < 0)
            return _Turns(True, c < 0, b < 0)
    return _Turns()


def _undistorted(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """A size with square pixels: the side that is too short is lengthened, as browsers do."""
    if not aspect or not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def find_videos(path: Path) -> list[Path]:
    """The video files in a folder, sorted, or the one file that is named. Raises InputError if there are none."""
    if not path.is_dir():
        return [path]  # what it lacks is said when it is opened
    found = sorted(p for p in path.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise InputError(f"no videos ({', '.join(VIDEO_SUFFIXES)}) in {path}: name a video file or a folder of some")
    return found


def video_info(path: Path) -> VideoInfo:
    """Rate and length of a video file, from its headers. Errors as of `read_video`."""
    with _opened(path) as (container, stream):
        rate_hz = _rate_hz(container, stream) if stream.average_rate or stream.guessed_rate else None
        return VideoInfo(rate_hz, _duration_s(container, stream) or None)


def read_video(
    path: Path,
    *,
    rate_hz: float | None = None,
    start_s: float = 0.0,
    on_left_out: Callable[[str], None] | None = None,
) -> Iterator[VideoFrame]:
    """The frames of a video in order, from `start_s` on: all of them, or at most `rate_hz` a second.

    With a rate, the first frame at or after each multiple of 1/rate_hz from `start_s` is given. Frames are decoded one
    by one as the iterator is advanced; the file is closed at its end, or when the iterator is closed. Times count from
    the first frame; frames without a time follow one another at the stream's rate, and a clock that jumps back goes on.

    A frame that is broken, or that FFmpeg marks as corrupt, is left out: `on_left_out` is called with the reason for
    each; without it, the log has the first of a file, and how many there were.

    Raises MissingDependency without PyAV, and InputError if the file is no video, or has no whole frame from `start_s`
    on.
    """
    with _opened(path) as (container, stream), _counted(path, on_left_out) as left_out:
        if rate_hz is not None and stream.average_rate and rate_hz >= _rate_hz(container, stream):
            rate_hz = None
        given = 0
        for frame in _timed(container, stream, left_out):
            if frame.time_s >= start_s + (given / rate_hz if rate_hz else 0.0) - _SLACK_S:
                given += 1
                yield frame
        if not given:
            raise InputError(
                f"{path}: no picture of this video could be decoded" + (f" from {start_s:g} s on" if start_s else "")
            )


def sample_video(path: Path, count: int) -> Iterator[VideoFrame]:
    """At most `count` frames of a video, those at the middles of as many equal parts; each frame once.

    Where the length is not known, the first `count` frames. Broken frames and errors as of `read_video`.
    """
    given = 0
    with _opened(path) as (container, stream), _counted(path, None) as left_out:
        stream.thread_type = "AUTO"
        duration_s = _duration_s(container, stream)
        start_s = next((one.time for one in whole_frames(container, stream, left_out)), None)
        if duration_s and start_s is not None:
            for frame in _sought(container, stream, left_out, start_s, _middles(duration_s, count)):
                given += 1
                yield frame
    if given:
        return
    with _opened(path) as (container, stream), _counted(path, None) as left_out:  # some files cannot be sought in
        frames = _timed(container, stream, left_out)
        middles = _middles(duration_s if start_s is not None else 0.0, count)
        for wanted_s in middles:
            found = next((frame for frame in frames if frame.time_s >= wanted_s - _SLACK_S), None)
            if found is not None:
                given += 1
                yield found
        if not given:
            raise InputError(f"{path}: no picture of this video could be decoded")


def _middles(duration_s: float, count: int) -> list[float]:
    return [(part + 0.5) * duration_s / count for part in range(count)]


def _sought(
    container: Any, stream: Any, on_left_out: Callable[[str], None], start_s: float, times_s: Iterable[float]
) -> Iterator[VideoFrame]:
    """The frames at some times, by seeking to the keyframe before each; no frame twice."""
    last_s = float("-inf")
    for wanted_s in times_s:
        container.seek(int((start_s + wanted_s) / stream.time_base), stream=stream)
        for frame in _timed(container, stream, on_left_out, start_s):
            if frame.time_s >= wanted_s - _SLACK_S:
                if frame.time_s > last_s:  # a short video has fewer frames than parts
                    last_s = frame.time_s
                    yield frame
                break


def whole_frames(container: Any, stream: Any, on_left_out: Callable[[str], None]) -> Iterator[Any]:
    """PyAV's frames of an open stream, files and cameras alike; `on_left_out` gets the reason for each one left out.

    Left out are packets that cannot be decoded, frames that FFmpeg marks as corrupt, and those made of packets that
    it marks so. Errors of reading, as when a camera is gone, are PyAV's own.
    """
    av = require("av", "video")
    corrupt: deque[int] = deque(maxlen=_MAX_REORDERED)
    for packet in container.demux(stream):
        if packet.is_corrupt and packet.pts is not None:
            corrupt.append(packet.pts)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:  # of decoding, not of reading
            on_left_out(f"a frame cannot be decoded: {error.strerror}")
            continue
        for picture in frames:
            if picture.is_corrupt or picture.pts in corrupt:
                on_left_out("a frame is corrupt")
            else:
                yield picture


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, with PyAV's errors as InputError."""
    av = require("av", "video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: there is no video in this file")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error})") from error


@contextmanager
def _counted(path: Path, tell: Callable[[str], None] | None) -> Iterator[Callable[[str], None]]:
    """What to call for each frame that is left out: `tell`, or a log line for the first and one for their number."""
    count = 0

    def note(reason: str) -> None:
        nonlocal count
        count += 1
        if count == 1:
            log.warning("%s: %s; it is left out", path, reason)

    try:
        yield tell or note
    finally:
        if count > 1:
            log.warning("%s: %d frames were left out", path, count)


def _timed(
    container: Any, stream: Any, on_left_out: Callable[[str], None], start_s: float | None = None
) -> Iterator[VideoFrame]:
    """The frames from where the container stands, with their times from `start_s` on, by default the first frame's."""
    period_s = 1 / _rate_hz(container, stream)
    jumps = bool(container.format.flags & _TIMES_MAY_JUMP)
    last_s: float | None = None
    shift_s = None if start_s is None else -start_s
    for picture in whole_frames(container, stream, on_left_out):
        next_s = 0.0 if last_s is None else last_s + period_s
        time_s = next_s
        if picture.time is not None:
            if shift_s is None:
                shift_s = next_s - picture.time
            time_s = picture.time + shift_s
            if last_s is not None and (time_s < last_s - _SLACK_S or (jumps and time_s > last_s + _JUMP_S)):
                shift_s += next_s - time_s
                time_s = next_s
        last_s = time_s
        yield VideoFrame(picture, time_s, stream.sample_aspect_ratio)


def _rate_hz(container: Any, stream: Any) -> float:
    """Mean frame rate; that which the stream itself names, where the file has no times."""
    rates = (stream.average_rate, stream.guessed_rate)
    first, second = rates[::-1] if container.format.flags & _NO_TIMES else rates
    return float(first or second or 25)


def _duration_s(container: Any, stream: Any) -> float:
    """0 where it is not known."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    whole_s = (container.duration or 0) / 1e6
    start_s = max(0, container.start_time or 0) / 1e6
    return whole_s - start_s if start_s < whole_s else whole_s  # Matroska names the time of its end
