"""Comparison with JPEG, WebP and AVIF on this board, with the same clock, threads and meter."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgesem.codec.codec import Codec
from runtime.profile.frames import Frame
from runtime.profile.timing import Phase, percentile, timed

_JUDGED = 4
"""Pictures whose quality is measured, outside the timed stretch."""
_SETTINGS: dict[str, tuple[float, ...]] = {
    "edgesem": (0.2, 0.5, 0.8),
    "jpeg": (10, 30, 60),
    "webp-m4": (5, 30, 60),
    "avif-s8": (20, 40, 60),
}


@dataclass(frozen=True)
class CodecUnderTest:
    """A codec at one setting. `encode` gives the file and the bytes of its messages, headers of layers included."""

    name: str
    setting: float
    encode: Callable[[Frame], tuple[bytes, int]]
    decode: Callable[[bytes], Frame]


@dataclass(frozen=True)
class CodecResult:
    """Result of a codec: the phase in which it ran, mean size of a frame, and quality of its pictures."""

    codec: CodecUnderTest
    phase: Phase
    size_bytes: float
    ms_ssim: float

    def figures(self) -> dict[str, Any]:
        """Setting, time, size and quality."""
        seconds = [seconds for _, seconds in self.phase.finished]
        return {
            "setting": self.codec.setting,
            "encode_p50_s": percentile(seconds, 0.5),
            "encode_p95_s": percentile(seconds, 0.95),
            "bytes_per_frame": self.size_bytes,
            "ms_ssim": self.ms_ssim,
        }


def codecs_under_test(codec: Codec, threads: int) -> Iterator[CodecUnderTest]:
    """edgesem and what Pillow brings, three settings each; AVIF only where Pillow was built with it."""
    from PIL import features

    for name, settings in _SETTINGS.items():
        if name.startswith("avif") and not features.check("avif"):
            continue
        for setting in settings:
            if name == "edgesem":
                yield CodecUnderTest(name, setting, _edgesem(codec, setting), codec.decode)
            else:
                yield CodecUnderTest(name, setting, _pillow(name, int(setting), threads), _pixels)


def _edgesem(codec: Codec, quality: float) -> Callable[[Frame], tuple[bytes, int]]:
    def encode(frame: Frame) -> tuple[bytes, int]:
        packet = codec.pack(codec.analyze(frame), quality=quality)
        return packet.to_bytes(), packet.wire_bytes

    return encode


def _pillow(name: str, quality: int, threads: int) -> Callable[[Frame], tuple[bytes, int]]:
    from PIL import Image

    formats: dict[str, tuple[str, dict[str, Any]]] = {
        "jpeg": ("JPEG", {"optimize": True}),
        "webp-m4": ("WEBP", {"method": 4}),
        "avif-s8": ("AVIF", {"speed": 8, "max_threads": threads}),
    }
    format_, options = formats[name]

    def encode(frame: Frame) -> tuple[bytes, int]:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, format_, quality=quality, **options)
        return stream.getvalue(), stream.tell()

    return encode


def _pixels(data: bytes) -> Frame:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def run(codec: CodecUnderTest, frames: Sequence[Frame], seconds: float) -> CodecResult:
    """Encode the frames in turn for so long, after one round that is not timed."""
    from edgesem.quality.metrics import ms_ssim

    coded = [codec.encode(frame) for frame in frames]
    judged = [ms_ssim(frame, codec.decode(data)) for frame, (data, _) in zip(frames[:_JUDGED], coded, strict=False)]
    turn = itertools.cycle(frames)

    def one_frame() -> int:
        codec.encode(next(turn))
        return 0

    phase = timed(one_frame, seconds)
    return CodecResult(codec, phase, sum(size for _, size in coded) / len(coded), sum(judged) / len(judged))
