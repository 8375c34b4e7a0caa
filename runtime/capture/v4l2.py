"""V4L2 camera: a USB camera or any other that is a `/dev/video` device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgesem.errors import EnvironmentMissing, require
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.capture.live_video import live_frames


def v4l2_frames(context: CaptureContext) -> Iterator[Frame]:
    """The device's frames. EnvironmentMissing, also later, if it is not there, cannot be opened, or falls silent."""
    require("av", "video")
    if not os.path.exists(context.uri):
        others = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
        there = f"there is {others}" if others else "there is no /dev/video* at all: is the camera plugged in?"
        raise EnvironmentMissing(f"{context.uri}: no such device; {there}")
    if not os.access(context.uri, os.R_OK | os.W_OK):
        raise EnvironmentMissing(
            f"{context.uri} may not be opened by this user: add it to the group that owns it (usermod -aG video USER), "
            "and log in again"
        )
    return _device_frames(context)


def _device_frames(context: CaptureContext) -> Iterator[Frame]:
    av = require("av", "video")

    width, height = context.settings.detail_size or (context.settings.width, context.settings.height)
    options = {"video_size": f"{width}x{height}"} if width and height else {}
    try:
        yield from live_frames(context, options, name=context.uri, form="v4l2")
    except (av.FFmpegError, OSError) as error:
        raise EnvironmentMissing(f"no picture from {context.uri}: {error}; see v4l2-ctl --list-devices") from error
