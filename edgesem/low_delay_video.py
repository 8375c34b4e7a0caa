"""Video codecs without delay: a frame goes in, its packet comes out before the next one goes in.

The codecs are those of PyAV (the extra `video`), on one thread. edgesem does not send video: these are the codecs that
it is measured against.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import UsageError, require

Frame = npt.NDArray[np.uint8]

DECODERS = {"libx264": "h264", "libx265": "hevc", "libsvtav1": "libdav1d", "libaom-av1": "libdav1d"}
"""By encoder, what decodes its packets."""
NEVER = 100_000
"""`key_every` of a stream with one keyframe at its start: SVT-AV1 takes its own distance where none is given."""


def check_library(library: str) -> None:
    """Raise UsageError if this PyAV has not got an encoder, or its decoder, and MissingDependency without PyAV."""
    av = require("av", "video")
    for name, mode in ((library, "w"), (DECODERS.get(library, library), "r")):
        try:
            av.codec.Codec(name, mode)
        except ValueError as error:  # what PyAV raises is one, under names that differ between its versions
            raise UsageError(
                f"PyAV {av.__version__} was built without {name}: leave its codecs out, or install a PyAV that has it "
                "(libaom-av1: up to 16.1, libsvtav1: from 17 on)"
            ) from error


class LowDelayEncoder:
    """Encoder of one stream of frames of one size, uint8 [H, W, 3], RGB; odd sides are made even.

    library: PyAV's name of an encoder, such as "libsvtav1". options: its options, which say how it is without delay.
    key_every: frames from one keyframe to the next. bit_rate_bps: its target rate, 0 if the options say how fine it is
    instead. Raises as `check_library`. Not thread-safe.
    """

    def __init__(
        self,
        library: str,
        *,
        width: int,
        height: int,
        rate_hz: float,
        options: dict[str, str],
        key_every: int = NEVER,
        bit_rate_bps: int = 0,
    ) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # else SVT-AV1 prints its settings
        check_library(library)
        self._av = require("av", "video")
        self._library = library
        self._encoder: Any = self._av.CodecContext.create(library, "w")
        self._encoder.width, self._encoder.height = width + width % 2, height + height % 2
        self._encoder.pix_fmt = "yuv420p"
        self._encoder.framerate = Fraction(rate_hz).limit_denominator(1000)
        self._encoder.time_base = 1 / self._encoder.framerate
        self._encoder.thread_count, self._encoder.gop_size = 1, key_every
        if bit_rate_bps:
            self._encoder.bit_rate = bit_rate_bps
        self._encoder.options = options
        self._frames = 0

    def encode(self, frame: Frame) -> bytes:
        """The packet of the next frame. Raises UsageError if the encoder held it back, or does not take its options.

        SVT-AV1 of PyAV before 18 holds frames back.
        """
        picture = self._av.VideoFrame.from_ndarray(even_sides(frame), format="rgb24")
        picture.pts = self._frames
        options = self._encoder.options
        try:
            with scheduling_kept():
                data = b"".join(bytes(part) for part in self._encoder.encode(picture))
        except self._av.FFmpegError as error:
            raise UsageError(
                f"{self._library} of PyAV {self._av.__version__} does not code frames of {picture.width}x"
                f"{picture.height}, {float(self._encoder.framerate):g} a second, with {options}: {error.strerror}"
            ) from error
        if self._encoder.options:  # FFmpeg leaves there what it did not understand, without a word
            raise UsageError(f"{self._library} of PyAV {self._av.__version__} does not know {self._encoder.options}")
        if not data:
            raise UsageError(f"{self._library} of PyAV {self._av.__version__} held frame {self._frames} back")
        self._frames += 1
        return data

    def close(self) -> None:
        """End the stream, once: SVT-AV1 complains of an encoder that is dropped in the middle."""
        if self._frames:
            self._frames = 0
            with scheduling_kept():
                self._encoder.encode(None)


class LowDelayDecoder:
    """Decoder of one stream that `LowDelayEncoder` makes with the same `library`. Not thread-safe."""

    def __init__(self, library: str) -> None:
        self._av = require("av", "video")
        self._library = library
        self._decoder: Any = self._av.CodecContext.create(DECODERS[library], "r")
        self._decoder.thread_count = 1  # else a decoder keeps frames back

    def decode(self, data: bytes, height: int, width: int) -> Frame:
        """The frame of a packet, uint8 [height, width, 3]. Raises UsageError if the decoder held it back."""
        decoded = self._decoder.decode(self._av.Packet(data))
        if not decoded:
            raise UsageError(f"{self._library}: its decoder held a frame back, so it has a delay here")
        return np.asarray(decoded[-1].to_ndarray(format="rgb24"), np.uint8)[:height, :width]


def svtav1_options(preset: int, *, key_every: int = NEVER, rtc: bool = False, more: str = "") -> dict[str, str]:
    """SVT-AV1's options for low delay. more: what else to set, as `:name=value`.

    Its own names in `svtav1-params` are the only ones that count: FFmpeg's names for low delay are other encoders'.
    """
    parameters = f"pred-struct=1:lp=1:scd=0:keyint={key_every}{':rtc=1' if rtc else ''}{more}"
    return {"preset": str(preset), "svtav1-params": parameters}


def even_sides(frame: Frame) -> Frame:
    """The picture with even sides, which 4:2:0 needs: an odd last row or column stands twice."""
    height, width = frame.shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge"))


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """The calling thread leaves with the scheduling policy that it came with.

    SVT-AV1, started by root, makes the thread that calls it a real-time one (SCHED_FIFO, priority 99) and leaves it so:
    whatever is measured afterwards would never wait for another process. Linux only; elsewhere it does nothing.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
