"""GStreamer camera: a Jetson's CSI camera (`csi`), or any pipeline that ends in raw video (`gst:PIPELINE`)."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator

import numpy as np

from edgesem.errors import EnvironmentMissing, UsageError
from edgesem.files import fitted_size
from runtime.capture.context import CaptureContext
from runtime.capture.frame import MIN_SIDE, Frame
from runtime.capture.pipe import piped_pictures

_NAME = "gstreamer"
_SENSOR = (1920, 1080)  # the mode that nvarguscamerasrc is asked for


def gstreamer_frames(context: CaptureContext) -> Iterator[Frame]:
    """The pipeline's frames, by gst-launch-1.0. EnvironmentMissing if that is not installed, or, later, if it ends.

    A pipeline's pictures keep their shape, with black borders where the size that is asked for has another one.
    `csi` has not run on a board yet.
    """
    width, height = context.camera_size
    kind, _, given = context.uri.partition(":")
    if kind.lower() == "gst":
        pipeline = _words(given)
    else:
        width, height = _even(fitted_size(*_SENSOR, width, height))
        pipeline = _words(
            f"nvarguscamerasrc sensor-id={context.camera_number} ! "
            f"video/x-raw(memory:NVMM),width={_SENSOR[0]},height={_SENSOR[1]} ! "
            f"nvvidconv ! video/x-raw,format=BGRx,width={width},height={height}"
        )
    # Square pixels: without them, videoscale would squeeze a picture of another shape; so it adds borders.
    pipeline += _words(
        "! queue leaky=downstream max-size-buffers=1 ! videoconvert ! videoscale add-borders=true ! "
        f"video/x-raw,format=RGB,width={width},height={height},pixel-aspect-ratio=1/1 ! fdsink fd=1 sync=false"
    )
    tool = shutil.which("gst-launch-1.0")
    if tool is None:
        raise EnvironmentMissing("gst-launch-1.0 is not installed: apt install gstreamer1.0-tools")
    return _piped_frames(context, [tool, "-q", *pipeline], width, height)


def _piped_frames(context: CaptureContext, argv: list[str], width: int, height: int) -> Iterator[Frame]:
    for data in piped_pictures(argv, width * height * 3, context.stop):
        picture = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        yield context.shrunk_frame(picture, _NAME) if context.settings.detail else context.frame(picture, _NAME)


def _words(pipeline: str) -> list[str]:
    """The words of a pipeline as a shell would split them, with its quotes."""
    try:
        words = shlex.split(pipeline)
    except ValueError as error:
        raise UsageError(f"gst:{pipeline}: a quote is not closed ({error})") from error
    if not words:
        raise UsageError("gst: a pipeline stands after the colon, such as gst:videotestsrc")
    return words


def _even(size: tuple[int, int]) -> tuple[int, int]:
    """A size whose rows have no padding, a little smaller."""
    return max(MIN_SIDE, size[0] // 4 * 4), max(MIN_SIDE, size[1] // 2 * 2)
