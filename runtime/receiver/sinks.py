"""Sinks of received pictures: a folder of PNG files, or a video."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import InputError, require
from edgesem.files import write_whole
from edgesem.provenance import Provenance, encode_with_provenance

Pixels = NDArray[np.uint8]
_JPEG_QUALITY = 90
LONGEST_S = 3600.0
_APART_S = 10.0
"""A picture that was captured so much longer after the one before than it came has a clock that jumped."""


class FolderSink:
    """Folder of PNG files, one a frame: `0007.png`. A file is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, frame: int, image: Pixels, provenance: Provenance | None = None) -> Path:
        """Store `image`, uint8 [H, W, 3], RGB, with its provenance, and return its path. InputError if it cannot."""
        path = self.folder / f"{frame:04d}.png"
        write_whole(path, encode_picture(image, "png", provenance))
        return path


class VideoSink:
    """Matroska file that grows with each picture, and can be played whenever its writer was stopped. For one thread.

    Pictures keep the distance in time that they were captured with, or that they came with where a clock has jumped. A
    picture of another size begins the next file: `clip.mkv`, `clip-2.mkv`; so does one `longest_s` after the first, so
    that old files can be deleted, and the next one after a failure, because FFmpeg writes nothing more to a file that a
    full disk has refused once.
    """

    def __init__(self, path: Path, *, longest_s: float = LONGEST_S) -> None:
        self.path, self._longest_s = path, longest_s
        self._files = 0
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._captured_s = self._came_s = self._began_s = self._last_ms = 0.0

    @property
    def file(self) -> Path | None:
        """The file that was begun last."""
        return self._name() if self._files else None

    def write(self, image: Pixels, time_s: float) -> Path:
        """Append `image` (uint8 [H, W, 3], RGB), captured at `time_s`; returns the file. InputError if it cannot."""
        av = require("av", "video")

        height, width = image.shape[0] & ~1, image.shape[1] & ~1  # 4:2:0 has no odd sides
        try:
            old = time.monotonic() - self._began_s >= self._longest_s
            gone = self._container is not None and not self._name().exists()  # deleted, to make room
            if self._container is None or self._size != (width, height) or old or gone:
                self._begin(width, height)
                self._captured_s = time_s
                self._came_s = self._began_s = time.monotonic()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            at_ms = max(self._last_ms + round(self._step_s(time_s) * 1000), self._last_ms + 1)
            frame.pts, frame.time_base = int(at_ms), self._stream.codec_context.time_base
            self._last_ms = at_ms
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            with contextlib.suppress(InputError):  # what is on disk can be played
                self.close()
            raise InputError(f"cannot write {self.path}: {error}") from error
        return self._name()

    def close(self) -> None:
        """Finish the file; it is closed also where that fails. InputError if the disk does not take its end."""
        container, self._container = self._container, None
        if container is None:
            return
        av = require("av", "video")
        try:
            with container:
                container.mux(self._stream.encode(None))
        except (OSError, av.FFmpegError) as error:
            raise InputError(f"cannot finish {self._name()}: {error}") from error

    def _step_s(self, time_s: float) -> float:
        """Seconds from the picture before, by capture; by arrival, if the two are far apart."""
        now_s = time.monotonic()
        captured_s, came_s = time_s - self._captured_s, now_s - self._came_s
        self._captured_s, self._came_s = time_s, now_s
        return captured_s if 0 <= captured_s <= came_s + _APART_S else came_s

    def _begin(self, width: int, height: int) -> None:
        from fractions import Fraction

        av = require("av", "video")

        self.close()
        self._files += 1
        while self._name().exists():  # of an earlier run
            self._files += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._name().touch(mode=0o640)
        # Without buffering and with short clusters, what was received is on disk when the power goes.
        self._container = av.open(
            str(self._name()), "w", format="matroska", options={"cluster_time_limit": "1000", "flush_packets": "1"}
        )
        self._stream = self._container.add_stream("libx264", options={"preset": "ultrafast", "tune": "zerolatency"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, 1000)
        self._stream.codec_context.gop_size = 30
        self._size, self._last_ms = (width, height), -1.0

    def _name(self) -> Path:
        return self.path if self._files <= 1 else self.path.with_stem(f"{self.path.stem}-{self._files}")


def encode_picture(image: Pixels, kind: str, provenance: Provenance | None = None) -> bytes:
    """Encode `image`, uint8 [H, W, 3], RGB, as `png` or `jpg`, with its provenance if there is one."""
    from PIL import Image

    if provenance is not None:
        return encode_with_provenance(image, kind, provenance, quality=_JPEG_QUALITY)
    buffer = io.BytesIO()
    if kind == "png":
        # Twice as fast as the default level of 6, a tenth larger.
        Image.fromarray(image).save(buffer, format="PNG", compress_level=3)
    else:
        Image.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
