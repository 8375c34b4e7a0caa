"""Video file as a source: played as a camera would show it, at its own speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from edgesem.errors import require
from edgesem.video import read_video, video_info
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_LATE_S = 0.04


def video_file_frames(context: CaptureContext) -> Iterator[Frame]:
    """The frames of a video in their time; what is late is left out. With `loop`, again and again.

    Raises MissingDependency without PyAV, InputError if the file is no video, and later if it is damaged.
    """
    require("av", "video")
    if Path(context.uri).is_file():  # a pipe would lose what is read of it
        video_info(Path(context.uri))
    return _played_frames(context)


def _played_frames(context: CaptureContext) -> Iterator[Frame]:
    path, limited_log = Path(context.uri), RateLimitedLog(log)

    def leave_out(why: str) -> None:
        context.left_out.note(limited_log, "%s: %s; left out", path, why)

    while not context.stop.is_set():
        began_s, shown = time.monotonic(), 0
        for picture in read_video(path, on_left_out=leave_out):
            due_s = began_s + picture.time_s
            if time.monotonic() > due_s + _LATE_S and shown:
                continue
            if context.stop.wait(max(0.0, due_s - time.monotonic())):
                return
            shown += 1
            yield context.scaled_frame(picture.rgb, picture.width, picture.height, f"{path.stem}-{shown:06d}")
        if not context.settings.loop:
            return
