"""Live video by PyAV: what a device or a server shows now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from edgesem.errors import InputError, require
from runtime.capture.context import CaptureContext, Picture
from runtime.capture.frame import Frame

_OPEN_S, _READ_S = 10.0, 10.0


def live_frames(
    context: CaptureContext, options: dict[str, str], *, name: str, form: str | None = None
) -> Iterator[Frame]:
    """The frames of `context.uri`, as often as is of use, called `name`; until the stop, or the end of the stream.

    Raises PyAV's own errors (av.FFmpegError, OSError), whose words may repeat the URI, and InputError without video.
    """
    av = require("av", "video")

    last_s = float("-inf")
    with av.open(context.uri, format=form, options=options, timeout=(_OPEN_S, _READ_S)) as container:
        if not container.streams.video:
            raise InputError(f"{name}: there is no video in it")
        container.streams.video[0].thread_type = "SLICE"  # threads by frame would hold some frames back
        for picture in container.decode(container.streams.video[0]):
            if context.stop.is_set():
                return
            if time.monotonic() - last_s >= context.live_period_s:
                last_s = time.monotonic()
                yield context.frame(to_rgb(picture, *context.fit(picture.width, picture.height)), name)


def to_rgb(picture: Any, width: int, height: int) -> Picture:
    """A frame of PyAV's, scaled."""
    rgb: Picture = picture.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return rgb
