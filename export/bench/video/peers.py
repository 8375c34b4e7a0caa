"""Peers: the video codecs that a user could pick instead, through PyAV without delay on one thread, and AVIF a frame.

    x264-veryfast, x265-medium       a preset at some crf, tune zerolatency; -qp: the same quantizer for every frame
    svtav1-p8, svtav1-p10-rtc        SVT-AV1 in low delay at a preset, or in its mode for real time
    aom-rt8                          libaom for real time at speed 8 (not in every build of PyAV)
    avif-s8                          each frame by itself, as `edgesem bench rd` codes it

A frame goes in, its packet comes out before the next one goes in. Video codecs get the bytes of edgesem's header on
top, for what they send must be named and checked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from edgesem.errors import UsageError, require
from edgesem.low_delay_video import LowDelayDecoder, LowDelayEncoder, check_library, svtav1_options
from edgesem.packet.packet import HEADER_BYTES
from edgesem.quality.metrics import Frame
from export.bench.rd.baselines import CodecUnderTest, baseline
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
    check_library(_LIBRARIES[_kind(name)])


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
        number = int(preset.removeprefix("p"))
        return {**svtav1_options(number, key_every=key_every, rtc=bool(more)), "crf": str(quantizer)}
    return {
        "usage": "realtime",
        "cpu-used": preset.removeprefix("rt"),
        "crf": str(quantizer),
        "b": "0",
        "lag-in-frames": "0",
    }


def _video(name: str, quantizer: int, rate_hz: float, key_every: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    """Each frame out before the next goes in, and each decoded by itself in order."""
    height, width = frames[0].shape[:2]
    library = _LIBRARIES[_kind(name)]
    options = _options(name, quantizer, key_every)
    encoder = LowDelayEncoder(
        library, width=width, height=height, rate_hz=rate_hz, options=options, key_every=key_every
    )
    decoder = LowDelayDecoder(library)
    for frame in frames:
        clock = Clock()
        data = encoder.encode(frame)
        yield clock.coded(HEADER_BYTES + len(data), partial(decoder.decode, data, height, width))
    encoder.close()


def _stills(codec: CodecUnderTest, quality: int, frames: Sequence[Frame]) -> Iterator[Coded]:
    for frame in frames:
        clock = Clock()
        data = codec.encode(frame, quality)
        yield clock.coded(len(data), partial(codec.decode, data, frame.shape[:2]))
