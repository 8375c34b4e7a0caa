"""Reader of video files: frames with their times, all of them, at a rate, or spread over the file.

It needs PyAV (the extra `video`), which is imported when a file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError, require

VIDEO_SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")

_SLACK_S = 1e-3  # containers round times to milliseconds


class VideoInfo(NamedTuple):
    """Properties of a video, from the headers of its file; None where they do not tell."""

    rate_hz: float | None
    """Mean frame rate."""
    duration_s: float | None


class VideoFrame:
    """One decoded frame. It is turned into RGB when that is asked for, so a frame that is left out costs little."""

    def __init__(self, picture: Any, time_s: float) -> None:
        self._picture = picture
        self.time_s = time_s
        """Presentation time, in seconds from the beginning of the video."""
        self.width: int = picture.width
        self.height: int = picture.height

    def rgb(self, width: int | None = None, height: int | None = None) -> npt.NDArray[np.uint8]:
        """The frame as uint8 [H, W, 3], RGB; scaled if a size is given."""
        scaled = self._picture.reformat(width=width or self.width, height=height or self.height, format="rgb24")
        array: npt.NDArray[np.uint8] = scaled.to_ndarray()
        return array


def find_videos(path: Path) -> list[Path]:
    """The video files in a folder, sorted, or the one file that is named. Raises InputError if there are none."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise InputError(f"no videos ({', '.join(VIDEO_SUFFIXES)}) in {path}: name a video file or a folder of some")
    return found


def video_info(path: Path) -> VideoInfo:
    """Rate and length of a video file, from its headers. Errors as of `read_video`."""
    with _opened(path) as (container, stream):
        rate_hz = float(stream.average_rate) if stream.average_rate else None
        return VideoInfo(rate_hz, _duration_s(container, stream) or None)


def read_video(path: Path, *, rate_hz: float | None = None, start_s: float = 0.0) -> Iterator[VideoFrame]:
    """The frames of a video in order, from `start_s` on: all of them, or at most `rate_hz` a second.

    With a rate, the first frame at or after each multiple of 1/rate_hz from `start_s` is given. Frames are decoded one
    by one as the iterator is advanced; the file is closed at its end, or when the iterator is closed.

    Raises MissingDependency without PyAV, and InputError if the file is no video, is damaged, or has no frame from
    `start_s` on.
    """
    with _opened(path) as (container, stream):
        if rate_hz is not None and stream.average_rate and rate_hz >= float(stream.average_rate):
            rate_hz = None
        given = 0
        for frame in _frames(container, stream):
            if frame.time_s >= start_s + (given / rate_hz if rate_hz else 0.0) - _SLACK_S:
                given += 1
                yield frame
        if not given:
            raise InputError(f"{path}: no picture could be decoded" + (f" from {start_s:g} s on" if start_s else ""))


def sample_video(path: Path, count: int) -> Iterator[VideoFrame]:
    """At most `count` frames of a video, those at the middles of as many equal parts; each frame once.

    Where the length is not known, the first `count` frames. Errors as of `read_video`.
    """
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        duration_s = _duration_s(container, stream)
        given, last_s = 0, float("-inf")
        if not duration_s:
            for frame, _ in zip(_frames(container, stream), range(count), strict=False):
                given += 1
                yield frame
        for part in range(count) if duration_s else ():
            wanted_s = (part + 0.5) * duration_s / count
            offset = int((_start_s(stream) + wanted_s) / stream.time_base)
            container.seek(offset, stream=stream)  # to the keyframe before it
            for frame in _frames(container, stream):
                if frame.time_s >= wanted_s - _SLACK_S:
                    if frame.time_s > last_s:  # a short video has fewer frames than parts
                        given, last_s = given + 1, frame.time_s
                        yield frame
                    break
        if not given:
            raise InputError(f"{path}: no picture could be decoded")


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


def _frames(container: Any, stream: Any) -> Iterator[VideoFrame]:
    """The frames from where the container stands; those without a time follow one another at the stream's rate."""
    period_s = 1 / float(stream.average_rate or 25)
    start_s, next_s = _start_s(stream), 0.0
    for picture in container.decode(stream):
        time_s = next_s if picture.time is None else float(picture.time) - start_s
        next_s = time_s + period_s
        yield VideoFrame(picture, time_s)


def _start_s(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _duration_s(container: Any, stream: Any) -> float:
    """0 where it is not known."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6
