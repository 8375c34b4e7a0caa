"""Baselines: the codecs that others use, each at its best, whole and at half and quarter size.

A name says all: `jpeg`, `webp-m4` (method 4), `avif-s6` (libaom at speed 6, tune iq), `avif-s6-ssim` (another tune),
`jxl` (effort 7), `svtav1-p4-iq` (preset and tune), `x265-slow`, `vvc-medium` (presets), and `-half` or `-quarter` where
the picture is made smaller before coding and brought back after, as somebody on a thin link would do it below a
codec's own floor. Every codec here runs on one thread. Pictures are uint8 [H, W, 3], RGB.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from edgesem.errors import UsageError, require
from edgesem.quality.metrics import Frame
from export.bench.rd.stills import (
    COARSEST,
    PRESETS,
    decode_stream,
    encode_svtav1,
    encode_vvc,
    encode_x265,
    library_version,
)

SIZES = {"full": 1, "half": 2, "quarter": 4}
ORIGINAL = "original"
"""Name by which a bench keeps the picture itself among those that codecs made of it."""
HIGHEST = 100  # quality, in the codecs of Pillow
_HIGHEST = {**COARSEST, "avif": 99, "jxl": 99}  # 100 is without loss, which neither takes with these options
_FIRST_GUESS = 32  # thin links mean low qualities, which are also the quick ones to try

# Quality settings that together cover about 0.03 to 0.6 bits per (full-size) pixel on photographs.
_SETTINGS: dict[str, dict[str, tuple[int, ...]]] = {
    "jpeg": {"full": (1, 4, 8, 16, 28), "half": (1, 6, 12, 22, 45, 70, 85), "quarter": (10, 22, 45, 70, 85, 93)},
    "webp": {"full": (0, 2, 6, 15, 30, 40), "half": (0, 1, 6, 20, 45, 70, 85, 93), "quarter": (10, 20, 45, 70, 85, 93)},
    "avif": {"full": (0, 8, 15, 22, 30, 40, 50), "half": (0, 15, 25, 36, 50, 60, 72), "quarter": (30, 42, 60, 72, 85)},
    "jxl": {"full": (0, 5, 20, 30, 50), "half": (0, 10, 20, 30, 60, 75, 90), "quarter": (10, 30, 60, 75, 85)},
    "svtav1": {
        "full": (2, 9, 13, 17, 21, 26, 33),
        "half": (4, 12, 18, 25, 34, 44, 54),
        "quarter": (14, 26, 40, 54, 62),
    },
    "x265": {"full": (0, 3, 6, 10, 14, 18), "half": (2, 8, 13, 18, 24, 31), "quarter": (8, 16, 23, 30, 37)},
    "vvc": {"full": (10, 14, 18, 22, 26, 30), "half": (14, 20, 25, 30, 36, 43), "quarter": (22, 29, 36, 43, 50)},
}
_DECODER_THREADS = {
    "AVIF": ("PIL.AvifImagePlugin", "DEFAULT_MAX_THREADS", 1),
    "JXL": ("pillow_jxl.JpegXLImagePlugin", "DECODE_THREADS", 0),
}
_NAME = re.compile(
    r"(jpeg|webp-m(?P<method>[0-6])|avif-s(?P<speed>[0-9]|10)(-(?P<tune>ssim|psnr|ssimulacra2))?|"
    r"jxl(-e(?P<effort>[1-9]))?|svtav1-p(?P<preset>[0-9]|1[0-3])-(?P<svt>iq|ssim|psnr)|"
    rf"x265-(?P<x265>{PRESETS['x265']})|vvc-(?P<vvc>{PRESETS['vvc']}))(-(?P<size>half|quarter))?"
)


@dataclass(frozen=True)
class CodecUnderTest:
    """A codec that a bench measures: picture uint8 [H, W, 3] -> bytes at a quality setting -> picture."""

    name: str
    version: str
    """What the results depend on: library versions, or the bundle's digest."""
    settings: tuple[float, ...]
    """Quality settings to measure at, rising in rate."""
    encode: Callable[[Frame, float], bytes]
    decode: Callable[[bytes, tuple[int, int]], Frame]
    """Bytes and (height, width), which any link tells, to the picture."""
    pack: Callable[[Frame, int], bytes | None] | None = None
    """The best coding in at most so many bytes, or None if there is none, for a codec with a way of its own to it."""
    payload: Callable[[bytes], int] = len
    """How many bytes of a file are the coded picture, and not the container around it."""
    highest: int = HIGHEST
    """The highest quality setting there is, for a codec without `pack`."""

    def fit(self, frame: Frame, budgets_bytes: Sequence[int]) -> list[bytes | None]:
        """The best coding within each budget, None where even the lowest quality is more."""
        if self.pack is not None:
            return [self.pack(frame, budget) for budget in budgets_bytes]
        encode = cache(lambda setting: self.encode(frame, setting))
        found = [finest(encode, budget, self.highest) for budget in budgets_bytes]
        return [coded and coded[1] for coded in found]


def finest(encode: Callable[[int], bytes], budget_bytes: int, highest: int = HIGHEST) -> tuple[int, bytes] | None:
    """The highest quality from 0 on that fits, and what it gives, by bisection; None if 0 is too much already."""
    best = encode(0)
    if len(best) > budget_bytes:
        return None
    low, high = 0, highest + 1
    while high - low > 1:
        middle = (low + high) // 2 if low or high <= _FIRST_GUESS else _FIRST_GUESS
        data = encode(middle)
        if len(data) > budget_bytes:
            high = middle
        else:
            low, best = middle, data
    return low, best


@cache
def baseline(name: str) -> CodecUnderTest:
    """The codec of that name, full-size or `-half` or `-quarter`.

    Raises UsageError for an unknown name and MissingDependency where a plugin is not installed.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(
            f"no codec is called {name!r}: use jpeg, webp-m4, avif-s6, avif-s6-ssim, svtav1-p4-iq, x265-slow, "
            "vvc-medium, jxl, or another method, speed, tune or preset"
        )
    family = name.split("-")[0]
    size = match["size"] or "full"
    shrink = SIZES[size]
    if family in COARSEST:
        encode_still, version = _still(family, match)
        format_ = "AVIF" if family == "svtav1" else None
    else:
        format_, options, version = _pillow(family, match)
        encode_still = partial(_save, format_, options)

    def encode(frame: Frame, setting: float) -> bytes:
        return encode_still(_shrunk(frame, shrink), int(setting))

    def decode(data: bytes, size: tuple[int, int]) -> Frame:
        if format_ is None:
            picture = decode_stream(data, family)
        else:
            with _one_thread(format_):
                picture = np.asarray(Image.open(io.BytesIO(data), formats=[format_]).convert("RGB"))
        height, width = _sides(size, shrink)
        return _enlarged(picture[:height, :width], size)  # video has even sides

    return CodecUnderTest(
        name,
        version,
        _SETTINGS[family][size],
        encode,
        decode,
        payload=_PAYLOADS.get(format_ or "", len),
        highest=_HIGHEST.get(family, HIGHEST),
    )


def _pillow(family: str, match: re.Match[str]) -> tuple[str, dict[str, Any], str]:
    """Pillow's name of a format, options to save by, and the versions of all that takes part."""
    options: dict[str, Any]
    if family == "jpeg":
        # Not progressive: its scans cost more than they save below half a bit per pixel (measured)
        format_, options = "JPEG", {"optimize": True}
        library = f"libjpeg {features.version_codec('jpg')}"
    elif family == "webp":
        format_, options = "WEBP", {"method": int(match["method"])}
        library = f"libwebp {features.version_module('webp')}"
    elif family == "avif":
        if not features.check("avif"):
            raise UsageError("this Pillow was built without AVIF: install a wheel of pillow>=11.3, or leave AVIF out")
        # Versions of libavif differ in the tune that they take by themselves
        tune = match["tune"] or "iq"
        format_ = "AVIF"
        options = {"speed": int(match["speed"]), "max_threads": 1, "advanced": {"tune": tune}}
        library = f"libavif {features.version_module('avif')}, {_aom_version()}, tune {tune}"
        try:
            _save(format_, options, np.zeros((16, 16, 3), np.uint8), 50)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{library} cannot be had ({error}): install a newer pillow, or name {match[0]}-ssim"
            ) from error
    else:
        require("pillow_jxl", "bench")  # registers itself with Pillow
        format_, options = "JXL", {"effort": int(match["effort"] or 7), "num_threads": 0}
        library = f"pillow-jxl-plugin {package_version('pillow-jxl-plugin')}"
    return format_, options, f"Pillow {PIL.__version__}, {library}"


def _still(family: str, match: re.Match[str]) -> tuple[Callable[[Frame, int], bytes], str]:
    """An encoder for video as one of stills, and its version and settings."""
    if family == "svtav1":
        encode = partial(encode_svtav1, preset=int(match["preset"]), tune=match["svt"])
        return encode, f"{library_version(family)}, preset {match['preset']}, tune {match['svt']}, 10 bits, still"
    encode = partial({"x265": encode_x265, "vvc": encode_vvc}[family], preset=match[family])
    return encode, f"{library_version(family)}, preset {match[family]}, 10 bits, still"


def _aom_version() -> str:
    """Name and version of Pillow's encoder of AVIF."""
    found = re.search(r"(\w+) \[enc(?:/dec)?\]:\s*([^,]+)", str(import_module("PIL._avif").codec_versions()))
    return f"{found[1]} {found[2]}" if found else "an unknown encoder"


def _shrunk(frame: Frame, by: int) -> Frame:
    if by == 1:
        return frame
    height, width = _sides((frame.shape[0], frame.shape[1]), by)
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _sides(size: tuple[int, int], by: int) -> tuple[int, int]:
    """Height and width of a picture that is made smaller."""
    return max(1, round(size[0] / by)), max(1, round(size[1] / by))


def _enlarged(picture: Frame, size: tuple[int, int]) -> Frame:
    height, width = size
    if picture.shape[:2] == size:
        return picture
    # Lanczos, because it is the strongest here: 0.05 to 0.2 dB above bicubic after AVIF (measured)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _save(format_: str, options: dict[str, Any], frame: Frame, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, format_, quality=quality, **options)
    return stream.getvalue()


def _avif_payload(data: bytes) -> int:
    """Bytes of AV1 in an AVIF file: what its boxes `mdat` hold."""
    found, at = 0, 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        size = size or len(data) - at
        found += size - 8 if kind == b"mdat" else 0
        at += max(size, 8)
    return found


def _webp_payload(data: bytes) -> int:
    """Bytes of VP8 in a WebP file, without the headers of RIFF and of the chunk."""
    return len(data) - 20


_PAYLOADS = {"AVIF": _avif_payload, "WEBP": _webp_payload}


@contextmanager
def _one_thread(format_: str) -> Iterator[None]:
    """Decoding by one thread: Pillow and its plugin take a decoder's threads from a module global only."""
    if format_ not in _DECODER_THREADS:
        yield
        return
    module_name, variable, one = _DECODER_THREADS[format_]
    module = import_module(module_name)
    before = getattr(module, variable)
    setattr(module, variable, one)
    try:
        yield
    finally:
        setattr(module, variable, before)
