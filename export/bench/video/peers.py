"""Peers: the video codecs that a user could pick instead, through PyAV without delay on one thread, and AVIF a frame.

    x264-veryfast, x265-medium       a preset at some crf, tune zerolatency; -qp: the same quantizer for every frame
    svtav1-p8, svtav1-p10-rtc        SVT-AV1 in low delay at a preset, or in its mode for real time
    aom-rt8                          libaom for real time at speed 8 (not in every build of PyAV)
    avif-s8                          each frame by itself, as `edgesem bench rd` codes it

A frame goes in, its packet comes out before the next one goes in. Video codecs get the bytes of edgesem's header on
top, for what they send must be named and checked too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from edgesem.errors import UsageError, require
from edgesem.packet.packet import HEADER_BYTES
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import CodecUnderTest, baseline
from export.bench.rd.stills import even_sides
from export.bench.scheduling import scheduling_kept
from export.bench.video.coded import ClipCoder, Clock, Coded

PEERS = (
    "svtav1-p8",
    "svtav1-p10-rtc",
    "aom-rt8",
    "x264-ultrafast",
    "x264-veryfast",
    "x264-veryfast-qp",
    "x264-medium",
    "x265-ultrafast",
    "x265-medium",
    "avif-s8",
)
"""Those that have been measured; other presets of the same form work too."""
_SETTINGS = {
    "x264": (26, 31, 36, 41, 46, 51),
    "x265": (26, 31, 36, 41, 46, 51),
    "svtav1": (25, 34, 43, 52, 58, 63),
    "aom": (25, 34, 43, 52, 58, 63),
    "avif": (80, 65, 50, 35, 20),
}
"""Quantizers, crf, or qualities, the finest first."""
_LIBRARIES = {"x264": "libx264", "x265": "libx265", "svtav1": "libsvtav1", "aom": "libaom-av1"}
_DECODERS = {"x264": "h264", "x265": "hevc", "svtav1": "libdav1d", "aom": "libdav1d"}
_NAME = re.compile(r"(x26[45])-([a-z]+)(-qp)?|(svtav1)-p(\d+)(-rtc)?|(aom)-rt(\d+)|avif-s8")


def settings_of(name: str) -> tuple[int, ...]:
    """The settings at which a peer is measured, the finest first. Raises UsageError for a name that is none."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"no codec is called {name!r}: use {', '.join(PEERS)}, or another preset of these")
    return _SETTINGS[_kind(name)]


def check(name: str) -> None:
    """Raise UsageError if this PyAV, or Pillow, cannot run a peer, and MissingDependency without PyAV."""
    settings_of(name)
    if name.startswith("avif"):
        baseline(name)
        return
    av = require("av", "video")
    for library, mode in ((_LIBRARIES[_kind(name)], "w"), (_DECODERS[_kind(name)], "r")):
        try:
            av.codec.Codec(library, mode)
        except ValueError as error:  # what PyAV raises is one, under names that differ between its versions
            raise UsageError(
                f"{name} needs {library}, which PyAV {av.__version__} was built without: leave it out, or install a "
                "PyAV that has it (14.2 has libaom-av1)"
            ) from error


def coders(name: str, rate_hz: float, key_every: int) -> list[ClipCoder]:
    """A coder for each of `settings_of`. key_every: frames from one keyframe to the next."""
    if name.startswith("avif"):
        return [partial(_stills, baseline(name), quality) for quality in settings_of(name)]
    return [partial(_video, name, quantizer, rate_hz, key_every) for quantizer in settings_of(name)]


def version(name: str) -> str:
    """What library runs a peer here, as far as it says."""
    if name.startswith("avif"):
        return baseline(name).version
    av = require("av", "video")
    parts = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"{_LIBRARIES[_kind(name)]} of PyAV {av.__version__} (libavcodec {parts})"


def _kind(name: str) -> str:
    return name.split("-")[0]


def _options(name: str, quantizer: int, key_every: int) -> dict[str, str]:
    kind, preset, *more = name.split("-")
    if kind in ("x264", "x265"):
        keys = f"keyint={key_every}:min-keyint={key_every}:scenecut=0:log-level=none:log=none"
        by = {"qp" if more else "crf": str(quantizer)}
        return {"preset": preset, "tune": "zerolatency", f"{kind}-params": keys, **by}
    if kind == "svtav1":
        rtc = ":rtc=1" if more else ""
        parameters = f"pred-struct=1:lp=1:scd=0:keyint={key_every}{rtc}"
        return {"preset": preset.removeprefix("p"), "crf": str(quantizer), "svtav1-params": parameters}
    return {
        "usage": "realtime",
        "cpu-used": preset.removeprefix("rt"),
        "crf": str(quantizer),
        "b": "0",
        "lag-in-frames": "0",
    }


def _video(name: str, quantizer: int, rate_hz: float, key_every: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    """Each frame out before the next goes in, and each decoded by itself in order."""
    os.environ.setdefault("SVT_LOG", "1")  # else SVT-AV1 prints its settings
    av = require("av", "video")
    height, width = even_sides(frames[0]).shape[:2]
    encoder: Any = av.CodecContext.create(_LIBRARIES[_kind(name)], "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(rate_hz).limit_denominator(1000)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count, encoder.gop_size = 1, key_every
    encoder.options = _options(name, quantizer, key_every)
    decoder: Any = av.CodecContext.create(_DECODERS[_kind(name)], "r")
    decoder.thread_count = 1  # else a decoder keeps frames back
    for index, frame in enumerate(frames):
        clock = Clock()
        picture = av.VideoFrame.from_ndarray(even_sides(frame), format="rgb24")
        picture.pts = index
        with scheduling_kept():
            data = b"".join(bytes(part) for part in encoder.encode(picture))

        def decode(data: bytes = data, frame: Frame = frame, index: int = index) -> Frame:
            decoded = decoder.decode(av.Packet(data)) if data else []
            if not decoded:
                raise UsageError(f"{name} held frame {index} back: it cannot be measured without delay here")
            return np.asarray(decoded[-1].to_ndarray(format="rgb24"), np.uint8)[: frame.shape[0], : frame.shape[1]]

        yield clock.coded(HEADER_BYTES + len(data), decode)
    with scheduling_kept():
        encoder.encode(None)  # SVT-AV1 complains of an encoder that is dropped in the middle


def _stills(codec: CodecUnderTest, quality: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    for frame in frames:
        clock = Clock()
        data = codec.encode(frame, quality)
        yield clock.coded(len(data), partial(codec.decode, data, frame.shape[:2]))
