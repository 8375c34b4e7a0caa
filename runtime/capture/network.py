"""Network camera: RTSP, HTTP or a stream of UDP or TCP, opened again whenever it is lost."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

from edgesem.errors import InputError, require
from runtime.capture.context import CaptureContext
from runtime.capture.frame import Frame
from runtime.capture.live_video import live_frames

log = logging.getLogger(__name__)

NETWORK_SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "udp://", "tcp://")

_FIRST_WAIT_S, _LAST_WAIT_S = 1.0, 30.0
_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay"}
_TRANSPORTS = ("tcp", "udp")
"""Of RTSP: some cameras know UDP only, and most networks are kinder to TCP."""


def network_frames(context: CaptureContext) -> Iterator[Frame]:
    """The camera's frames until the stop; each failure costs a log line and a wait, longer each time.

    An RTSP camera that gives nothing by TCP is tried by UDP, and so on in turn. MissingDependency without PyAV.
    """
    require("av", "video")
    return _camera_frames(context)


def _camera_frames(context: CaptureContext) -> Iterator[Frame]:
    wait_s, attempt = _FIRST_WAIT_S, 0
    while not context.stop.is_set():
        shown = 0
        try:
            for frame in _connection_frames(context, _TRANSPORTS[attempt % len(_TRANSPORTS)]):
                wait_s = _FIRST_WAIT_S
                shown += 1
                yield frame
            if not shown and not context.stop.is_set():
                log.warning("%s was opened and gave no picture: is it video? Trying again", without_login(context.uri))
        except InputError as error:
            log.warning("%s", error)
        attempt += not shown
        context.stop.wait(wait_s * random.uniform(0.5, 1.0))
        wait_s = min(2 * wait_s, _LAST_WAIT_S)


def _connection_frames(context: CaptureContext, transport: str) -> Iterator[Frame]:
    """The frames of one connection. InputError if it fails."""
    av = require("av", "video")

    name = without_login(context.uri)
    options = _OPTIONS
    if context.uri.lower().startswith("rtsp"):
        options = {**_OPTIONS, "rtsp_transport": transport}
        name = f"{name} by {transport.upper()}"
    shown = False
    forms = [None, "mjpeg"] if context.uri.lower().startswith("http") else [None]
    for form in forms:
        try:
            for frame in live_frames(context, options, name=name, form=form):
                shown = True
                yield frame
            return
        except (av.FFmpegError, OSError) as error:
            # Some cameras send no boundary before the first picture, or none at all: FFmpeg then knows no format.
            if isinstance(error, av.error.InvalidDataError) and not shown and form != forms[-1]:
                continue
            # Not the error's own words, nor as its cause: they repeat the URI with its user and password.
            raise InputError(f"no picture from {name}: {error.strerror or type(error).__name__}") from None


def without_login(uri: str) -> str:
    """A URI, or another name of a source, as it may stand in a log: without user and password."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
