"""Points of the rate-distortion bench: one coding of one picture each, kept in a file between runs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesem.jsonl import JsonLines
from edgesem.quality.metrics import Frame

Key = tuple[str, str, float, str]


@dataclass(frozen=True)
class Coding:
    """Size and times of one coding, on one thread."""

    bytes: int
    encode_s: float
    decode_s: float
    encode_cpu_s: float
    """Processor time: below `encode_s` if something else was running too, above it only with a second thread."""
    decode_cpu_s: float
    decoded_digest: str
    run: str
    """When the run began that took the times; times of one run were taken side by side."""
    payload_bytes: int | None = None
    """Of `bytes`, those that are the coded picture and not the container around it."""


@dataclass(frozen=True)
class Quality:
    """How near the decoded picture is to the original."""

    psnr: float
    """dB; 100 stands for equal pictures, so that a mean exists."""
    ms_ssim: float
    ssimulacra2: float
    gmsd: float
    lpips: float | None = None
    lpips_weights: str | None = None
    """Digest of the weights that `lpips` was measured with."""
    dists_like: float | None = None
    dists_like_weights: str | None = None
    lpips_vgg: float | None = None
    lpips_vgg_weights: str | None = None
    dists: float | None = None
    dists_weights: str | None = None
    detector_features: float | None = None
    detector_features_weights: str | None = None


@dataclass(frozen=True)
class Point:
    """One picture, by one codec, at one setting."""

    picture: str
    picture_digest: str
    pixels: int
    codec: str
    setting: float
    version: str
    """Of the codec and of the measures: results of another version are not reused."""
    coding: Coding
    quality: Quality

    @property
    def key(self) -> Key:
        """Picture, codec, setting and version: equal for two points of the same measurement."""
        return (self.picture_digest, self.codec, self.setting, self.version)

    @property
    def bpp(self) -> float:
        """Bits of the file over pixels of the original."""
        return 8 * self.coding.bytes / self.pixels

    @property
    def payload_bpp(self) -> float | None:
        """Bits of the payload over pixels of the original."""
        payload = self.coding.payload_bytes
        return None if payload is None else 8 * payload / self.pixels

    def flat(self) -> dict[str, Any]:
        """All values by name, on one level, as reports hold them."""
        values: dict[str, Any] = asdict(self)
        coding, quality = values.pop("coding"), values.pop("quality")
        return {**values, "bpp": self.bpp, "payload_bpp": self.payload_bpp, **coding, **quality}


class PointStore:
    """Points in a JSON-lines file, also found by the pixels whose quality they hold."""

    def __init__(self, path: Path) -> None:
        self._points = JsonLines[Point](path, key=lambda point: point.key, encode=asdict, decode=_point)
        self._by_pixels: dict[tuple[str, str], list[Point]] = defaultdict(list)
        for point in self._points:
            self._index(point)

    def get(self, key: Key) -> Point | None:
        """The point that was measured, or None."""
        return self._points.get(key)

    def quality(self, picture: str, decoded: str, metrics: str) -> Quality | None:
        """The quality of these pixels, whichever codec they came from; None if it was not measured.

        picture, decoded: digests of the original's and the decoded pixels; metrics: version of the metrics.
        """
        points = self._by_pixels.get((picture, decoded), ())
        return next((point.quality for point in reversed(points) if point.version.endswith(f"; {metrics}")), None)

    def add(self, point: Point) -> None:
        """Keep a point, on disk at once."""
        self._points.add(point)
        self._index(point)

    def _index(self, point: Point) -> None:
        self._by_pixels[point.picture_digest, point.coding.decoded_digest].append(point)


def picture_digest(picture: Frame) -> str:
    """The first 24 digits of a SHA-256 over size and pixels of a picture."""
    return hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()[:24]


def _point(values: dict[str, Any]) -> Point:
    coding, quality = Coding(**values.pop("coding")), Quality(**values.pop("quality"))
    return Point(**values, coding=coding, quality=quality)
