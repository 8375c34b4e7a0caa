"""Raspberry Pi camera: by picamera2 where that is installed, otherwise by rpicam-vid. Has not run on a board yet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgesem.errors import EnvironmentMissing, require
from edgesem.video import VideoFrame
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.capture.pipe import piped_pictures

_NAME = "picamera"


def picamera_frames(context: CaptureContext) -> Iterator[Frame]:
    """The camera's frames. EnvironmentMissing if neither way is installed, or, later, if the program ends."""
    number = context.camera_number
    try:
        from picamera2 import Picamera2  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return _rpicam_frames(context, number)
    return _picamera2_frames(context, Picamera2, number)


def _picamera2_frames(context: CaptureContext, make_camera: Any, number: int) -> Iterator[Frame]:
    with make_camera(number) as camera:
        # libcamera names formats by the order in a register: its BGR888 is R, G, B in memory.
        main = {"size": context.camera_size, "format": "BGR888"}
        camera.configure(camera.create_video_configuration(main=main))
        camera.start()
        while not context.stop.is_set():
            picture = np.asarray(camera.capture_array("main"))[..., :3]
            yield context.shrunk_frame(picture, _NAME) if context.settings.detail else context.frame(picture, _NAME)


def _rpicam_frames(context: CaptureContext, number: int) -> Iterator[Frame]:
    """The same by the program that the board's system brings."""
    require("av", "video")
    tool = shutil.which("rpicam-vid")
    if tool is None:
        raise EnvironmentMissing("rpicam-vid is not installed: apt install rpicam-apps-lite")
    return _piped_frames(context, tool, number)


def _piped_frames(context: CaptureContext, tool: str, number: int) -> Iterator[Frame]:
    av = require("av", "video")

    width, height = context.camera_size
    width = -(-width // 64) * 64  # its rows then have no padding
    argv = [tool, "-n", "-t", "0", "--camera", str(number), "--codec", "yuv420", "--width", str(width)]
    argv += ["--height", str(height), "--framerate", f"{min(60.0, max(10.0, 2 * context.fps)):g}"]
    last_s = float("-inf")
    for data in piped_pictures([*argv, "--flush", "-o", "-"], width * height * 3 // 2, context.stop):
        if time.monotonic() - last_s < context.live_period_s:
            continue
        last_s = time.monotonic()
        planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        yield context.scaled_frame(VideoFrame(picture, 0.0).rgb, width, height, _NAME)
