"""Still pictures by encoders made for video: SVT-AV1, x265 and VVenC, 10 bits, 4:2:0, on one thread.

SVT-AV1 and x265 come with PyAV, VVenC with an ffmpeg program that was built with it, such as that of the package
imageio-ffmpeg. SVT-AV1's frame is written as an AVIF file, the others' as the bare stream (HEIF would add some hundred
bytes), so file and payload are the same there.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import os
import re
import shutil
import subprocess
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.errors import MissingDependency, require
from edgesem.low_delay_video import even_sides, scheduling_kept
from edgesem.quality.metrics import Frame

COARSEST = {"svtav1": 70, "x265": 51, "vvc": 63}
"""The quantizer's coarsest setting (CRF or QP): `quality` counts from there upwards."""
PRESETS = {"x265": "medium|slow|slower|veryslow", "vvc": "faster|fast|medium|slow|slower"}
_PIXELS = "yuv420p10le"
_TUNES = {"iq": 3, "psnr": 1, "ssim": 2}
_DECODERS = {"x265": "hevc", "vvc": "vvc"}


def encode_svtav1(frame: Frame, quality: int, preset: int, tune: str) -> bytes:
    """An AVIF file of one frame, by SVT-AV1 at CRF `COARSEST - quality`, its sides made even."""
    frame = even_sides(frame)
    os.environ.setdefault("SVT_LOG", "1")  # else it prints its settings for each frame
    av = require("av", "bench")
    stream = io.BytesIO()
    with av.open(stream, "w", format="avif") as container:
        made = container.add_stream("libsvtav1", rate=1)
        made.width, made.height, made.pix_fmt = frame.shape[1], frame.shape[0], _PIXELS
        made.codec_context.thread_count = 1
        crf = COARSEST["svtav1"] - quality
        made.options = {"preset": str(preset), "svtav1-params": f"crf={crf}:tune={_TUNES[tune]}:avif=1:lp=1"}
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = 0
        with scheduling_kept():
            packets = [*made.encode(picture), *made.encode(None)]
        for packet in packets:
            container.mux(packet)
    return stream.getvalue()


def encode_x265(frame: Frame, quality: int, preset: str) -> bytes:
    """A bare HEVC stream of one frame, by x265 at CRF `COARSEST - quality`, its sides made even."""
    frame = even_sides(frame)
    av = require("av", "bench")
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.shape[1], frame.shape[0], _PIXELS
    encoder.framerate = encoder.time_base = Fraction(1)
    encoder.thread_count = 1
    quiet = "info=0:log-level=none"  # `info` would write a line of settings into the stream
    alone = "pools=none:frame-threads=1:lookahead-threads=0"
    crf = COARSEST["x265"] - quality
    encoder.options = {"preset": preset, "crf": str(crf), "x265-params": f"keyint=1:{quiet}:{alone}"}
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def encode_vvc(frame: Frame, quality: int, preset: str) -> bytes:
    """A bare VVC stream of one frame, by VVenC at QP `COARSEST - quality`, with its perceptual optimization."""
    frame = even_sides(frame)
    height, width = frame.shape[:2]
    qp = COARSEST["vvc"] - quality
    reads = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-i", "-"]
    writes = ["-pix_fmt", _PIXELS, "-c:v", "libvvenc", "-preset", preset, "-qp", str(qp), "-threads", "1"]
    return _ffmpeg([*reads, "-frames:v", "1", *writes, "-vvenc-params", "threads=1", "-f", "vvc", "-"], frame.tobytes())


def decode_stream(data: bytes, family: str) -> Frame:
    """The picture of a bare stream, uint8 [H, W, 3], by PyAV on one thread."""
    av = require("av", "bench")
    decoder: Any = av.CodecContext.create(_DECODERS[family], "r")
    decoder.thread_count = 1
    frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    return np.asarray(frames[0].to_ndarray(format="rgb24"), np.uint8)


@cache
def library_version(family: str) -> str:
    """The encoder's name and version. Raises MissingDependency where it is not there."""
    if family == "vvc":
        tiny = "-f lavfi -i color=s=64x64 -frames:v 1 -c:v libvvenc -preset faster -f null -"
        log = _ffmpeg(tiny.split(), b"", log=True)
        found = re.search(r"libvvenc version: (\S+)", log.decode("utf-8", "replace"))
        return f"VVenC {found[1] if found else 'of unknown version'}"
    av = require("av", "bench")
    encoder = "libsvtav1" if family == "svtav1" else "libx265"
    if encoder not in av.codecs_available:
        raise MissingDependency(f"this PyAV ({av.__version__}) was built without {encoder}: install a wheel of it")
    name = "SVT-AV1" if family == "svtav1" else "x265"
    return f"PyAV {av.__version__}, {name} {_version_inside(Path(str(av.__file__)), family)}"


def _version_inside(package: Path, family: str) -> str:
    """What a library of PyAV's wheel says of itself: no Python module knows it."""
    pattern = "libSvtAv1Enc*" if family == "svtav1" else "libx265*"
    for path in sorted((package.parents[1] / "av.libs").glob(pattern)):
        try:
            library = ctypes.CDLL(str(path))
            if family == "svtav1":
                library.svt_av1_get_version.restype = ctypes.c_char_p
                return str(library.svt_av1_get_version().decode()).removeprefix("v")
            return (ctypes.c_char_p.in_dll(library, "x265_version_str").value or b"").decode()
        except (OSError, AttributeError, ValueError):
            continue
    return "of unknown version"


def _ffmpeg(arguments: list[str], given: bytes, *, log: bool = False) -> bytes:
    level = "verbose" if log else "error"
    command = [_ffmpeg_path(), "-hide_banner", "-loglevel", level, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode:
        raise MissingDependency(
            f"{command[0]} cannot code VVC: {done.stderr.decode('utf-8', 'replace')[-300:].strip()}"
        )
    return done.stderr if log else done.stdout


@cache
def _ffmpeg_path() -> str:
    """An ffmpeg with VVenC: of the package imageio-ffmpeg, else the system's."""
    found: list[str] = []
    with suppress(ImportError, RuntimeError):
        found.append(str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()))
    found += [path for path in [shutil.which("ffmpeg")] if path]
    for path in found:
        listed = subprocess.run([path, "-hide_banner", "-encoders"], capture_output=True, check=False)
        if b"libvvenc" in listed.stdout:
            return path
    raise MissingDependency(
        f"VVC needs an ffmpeg with VVenC ({', '.join(found) or 'none'} found here): run `pip install imageio-ffmpeg`"
    )
