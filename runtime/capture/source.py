"""Source of a sender's frames: a camera, a network camera, a video, a folder or standard input, named by a URI.

    /dev/video0                   v4l2.py        picamera, picamera:1         picamera.py
    rtsp://..., http://...        network.py     csi, csi:1, gst:PIPELINE     gstreamer.py
    FOLDER                        folder.py      -                            pnm.py
    clip.mp4                      video_file.py

To add a kind of camera, write a module like these, with a function that makes frames of a `CaptureContext`, and name it
in `_KINDS`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edgesem.errors import InputError
from edgesem.picture import as_grey
from runtime.capture.context import CaptureContext
from runtime.capture.folder import folder_frames
from runtime.capture.frame import Frame
from runtime.capture.grey import GreyFilter
from runtime.capture.gstreamer import gstreamer_frames
from runtime.capture.network import NETWORK_SCHEMES, network_frames, without_login
from runtime.capture.picamera import picamera_frames
from runtime.capture.pnm import stdin_frames
from runtime.capture.privacy_mask import PrivacyMask
from runtime.capture.v4l2 import v4l2_frames
from runtime.capture.video_file import video_file_frames
from runtime.settings import SourceSettings


class _Kind(NamedTuple):
    """A kind of source: how its URIs begin, what reads it, and whether it is a camera that gives frames for ever.

    `frames` first looks at what costs little: whether there is such a device, folder or program. Then it gives an
    iterator, which opens it.
    """

    prefixes: tuple[str, ...]
    frames: Callable[[CaptureContext], Iterator[Frame]]
    continuous: bool = True


_KINDS = (
    _Kind(NETWORK_SCHEMES, network_frames),
    _Kind(("picamera:",), picamera_frames),
    _Kind(("csi:", "gst:"), gstreamer_frames),
)
"""A prefix without what follows its colon is a name, too: `csi`."""
_DEVICE = _Kind((), v4l2_frames)
_STDIN = _Kind(("-",), stdin_frames, continuous=False)
_FOLDER = _Kind((), folder_frames, continuous=False)
_VIDEO_FILE = _Kind((), video_file_frames, continuous=False)


class Source:
    """The frames of one URI, shrunk, turned and masked as the settings say; iterate it. `stop` ends it soon.

    A camera gives frames as they come, and the sender takes the newest when it can; a file or a folder is played at its
    own pace. `continuous` says whether it is a camera, whose silence means that something is wrong. UsageError,
    InputError or EnvironmentMissing if it cannot even be begun; a network camera that is lost later is opened again for
    ever. So is a privacy mask that cannot be read: without its mask, no frame comes out.
    """

    def __init__(self, settings: SourceSettings, *, fps: float, stop: threading.Event) -> None:
        self._mask = None if settings.mask is None else PrivacyMask.load(settings.mask)
        self._grey = GreyFilter(settings.grey)
        self._context = CaptureContext(settings, fps, stop)
        kind = _kind_of(settings.uri)
        self.continuous = kind.continuous
        self._frames = kind.frames(self._context)

    @property
    def left_out(self) -> int:
        """Number of items that could not be read."""
        return self._context.left_out.count

    @property
    def masked(self) -> bool:
        """Whether a privacy mask is on."""
        return self._mask is not None

    @property
    def grey(self) -> bool:
        """Whether the last frame was made grey, because it had no colour or because that was asked for."""
        return self._grey.grey

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            picture, full = frame.image, frame.full
            if self._mask is not None:
                picture = self._mask.apply(picture)
                full = None if full is None else self._mask.apply(full)
            picture = self._grey.apply(picture)
            if full is not None and self._grey.grey:
                full = as_grey(full)
            yield replace(frame, image=picture, full=full)


def _kind_of(uri: str) -> _Kind:
    for kind in _KINDS:
        if uri.lower().startswith(kind.prefixes) or f"{uri.lower()}:" in kind.prefixes:
            return kind
    if uri == "-":
        return _STDIN
    path = Path(uri)
    if uri.startswith("/dev/") and not (path.is_dir() or path.is_file()):  # /dev/shm has folders
        return _DEVICE
    if not path.exists():
        raise InputError(f"{without_login(uri)}: no such file, folder or device")
    return _FOLDER if path.is_dir() else _VIDEO_FILE
