"""Live video by PyAV: what a device or a server shows now."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from edgesem.errors import InputError, require
from edgesem.video import VideoFrame, whole_frames
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.process.rate_limit import RateLimitedLog

log = logging.getLogger(__name__)

_OPEN_S, _READ_S = 10.0, 10.0


def live_frames(
    context: CaptureContext, options: dict[str, str], *, name: str, form: str | None = None
) -> Iterator[Frame]:
    """The frames of `context.uri`, as often as is of use, called `name`; until the stop, or the end of the stream.

    Broken frames are left out, with a log line now and then.

    Raises PyAV's own errors (av.FFmpegError, OSError), whose words may repeat the URI, and InputError without video.
    """
    av = require("av", "video")

    last_s = float("-inf")
    with av.open(context.uri, format=form, options=options, timeout=(_OPEN_S, _READ_S)) as container:
        if not container.streams.video:
            raise InputError(f"{name}: there is no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # threads by frame would hold some frames back
        warnings = RateLimitedLog(log)

        def leave_out(why: str) -> None:
            context.left_out.note(warnings, "%s: %s; left out", name, why)

        for picture in whole_frames(container, stream, leave_out):
            if context.stop.is_set():
                return
            if time.monotonic() - last_s >= context.live_period_s:
                last_s = time.monotonic()
                shown = VideoFrame(picture, 0.0, stream.sample_aspect_ratio)
                yield context.scaled_frame(shown.rgb, shown.width, shown.height, name)
