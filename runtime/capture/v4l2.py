"""V4L2 camera: a USB camera or any other that is a `/dev/video` device."""

from __future__ import annotations

from collections.abc import Iterator

from edgesem.errors import EnvironmentMissing, require
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.capture.live_video import live_frames


def v4l2_frames(context: CaptureContext) -> Iterator[Frame]:
    """The device's frames. EnvironmentMissing if it cannot be opened, or falls silent."""
    av = require("av", "video")

    width, height = context.settings.detail_size or (context.settings.width, context.settings.height)
    options = {"video_size": f"{width}x{height}"} if width and height else {}
    try:
        yield from live_frames(context, options, name=context.uri, form="v4l2")
    except (av.FFmpegError, OSError) as error:
        raise EnvironmentMissing(f"no picture from {context.uri}: {error}; see v4l2-ctl --list-devices") from error
