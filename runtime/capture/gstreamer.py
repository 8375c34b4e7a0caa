"""GStreamer camera: a Jetson's CSI camera (`csi`), or any pipeline that ends in raw video (`gst:PIPELINE`)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np

from edgesem.errors import EnvironmentMissing
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.capture.pipe import piped_pictures


def gstreamer_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pipeline's frames, by gst-launch-1.0. EnvironmentMissing if that is not installed, or ends.

    `csi` has not run on a board yet.
    """
    width, height = context.camera_size
    if context.uri.startswith("gst:"):
        pipeline = context.uri.removeprefix("gst:")
    else:
        pipeline = (
            f"nvarguscamerasrc sensor-id={context.camera_number} ! "
            "video/x-raw(memory:NVMM),width=1920,height=1080 ! "
            f"nvvidconv ! video/x-raw,format=BGRx,width={width},height={height}"
        )
    pipeline += (
        " ! queue leaky=downstream max-size-buffers=1 ! videoconvert ! videoscale ! "
        f"video/x-raw,format=RGB,width={width},height={height} ! fdsink fd=1 sync=false"
    )
    tool = shutil.which("gst-launch-1.0")
    if tool is None:
        raise EnvironmentMissing("gst-launch-1.0 is not installed: apt install gstreamer1.0-tools")
    for data in piped_pictures([tool, "-q", *pipeline.split()], width * height * 3, context.stop):
        yield context.frame(np.frombuffer(data, np.uint8).reshape(height, width, 3), "gstreamer")
