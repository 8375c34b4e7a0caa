"""Baselines: JPEG, WebP, AVIF and JPEG XL as codecs under test, whole and at half and quarter size.

A name says all: `jpeg`, `webp-m4` (method 4), `avif-s6` (speed 6), `jxl` (effort 7), and `-half` or `-quarter` where
the picture is made smaller before coding and brought back after, as somebody on a thin link would do it below a
codec's own floor. Every codec here runs on one thread. Pictures are uint8 [H, W, 3], RGB.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from edgesem.errors import UsageError, require
from edgesem.quality.metrics import Frame

SIZES = {"full": 1, "half": 2, "quarter": 4}
ORIGINAL = "original"
"""Name by which a bench keeps the picture itself among those that codecs made of it."""
HIGHEST = 100  # quality, in all of these codecs
_FIRST_GUESS = 32  # thin links mean low qualities, which are also the quick ones to try

# Quality settings that together cover about 0.03 to 0.6 bits per (full-size) pixel on photographs.
_SETTINGS: dict[str, dict[str, tuple[int, ...]]] = {
    "jpeg": {"full": (1, 4, 8, 16, 28), "half": (1, 6, 12, 22, 45, 70, 85), "quarter": (10, 22, 45, 70, 85, 93)},
    "webp": {"full": (0, 2, 6, 15, 30, 40), "half": (0, 1, 6, 20, 45, 70, 85, 93), "quarter": (10, 20, 45, 70, 85, 93)},
    "avif": {"full": (0, 8, 15, 22, 30, 40, 50), "half": (0, 15, 25, 36, 50, 60, 72), "quarter": (30, 42, 60, 72, 85)},
    "jxl": {"full": (0, 5, 20, 30, 50), "half": (0, 10, 20, 30, 60, 75, 90), "quarter": (10, 30, 60, 75, 85)},
}
_DECODER_THREADS = {
    "AVIF": ("PIL.AvifImagePlugin", "DEFAULT_MAX_THREADS", 1),
    "JXL": ("pillow_jxl.JpegXLImagePlugin", "DECODE_THREADS", 0),
}
_NAME = re.compile(
    r"(jpeg|webp-m(?P<method>[0-6])|avif-s(?P<speed>[0-9]|10)|jxl(-e(?P<effort>[1-9]))?)(-(?P<size>half|quarter))?"
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

    def fit(self, frame: Frame, budgets_bytes: Sequence[int]) -> list[bytes | None]:
        """The best coding within each budget, None where even the lowest quality is more."""
        if self.pack is not None:
            return [self.pack(frame, budget) for budget in budgets_bytes]
        encode = cache(lambda setting: self.encode(frame, setting))
        found = [finest(encode, budget) for budget in budgets_bytes]
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
        raise UsageError(f"no codec is called {name!r}: use jpeg, webp-m4, avif-s6, jxl, or another method or speed")
    family = name.split("-")[0]
    size = match["size"] or "full"
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
        format_, options = "AVIF", {"speed": int(match["speed"]), "max_threads": 1}
        library = f"libavif {features.version_module('avif')}"
    else:
        require("pillow_jxl", "bench")  # registers itself with Pillow
        format_, options = "JXL", {"effort": int(match["effort"] or 7), "num_threads": 0}
        library = f"pillow-jxl-plugin {package_version('pillow-jxl-plugin')}"
    shrink = SIZES[size]

    def encode(frame: Frame, setting: float) -> bytes:
        return _save(_shrunk(frame, shrink), format_, quality=int(setting), **options)

    def decode(data: bytes, size: tuple[int, int]) -> Frame:
        with _one_thread(format_):
            picture = Image.open(io.BytesIO(data), formats=[format_]).convert("RGB")
        return _enlarged(picture, size)

    return CodecUnderTest(name, f"Pillow {PIL.__version__}, {library}", _SETTINGS[family][size], encode, decode)


def _shrunk(frame: Frame, by: int) -> Image.Image:
    picture = Image.fromarray(frame)
    if by == 1:
        return picture
    size = (max(1, round(picture.width / by)), max(1, round(picture.height / by)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _enlarged(picture: Image.Image, size: tuple[int, int]) -> Frame:
    height, width = size
    if picture.size != (width, height):
        # Lanczos, because it is the strongest here: 0.05 to 0.2 dB above bicubic after AVIF (measured)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _save(picture: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


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
