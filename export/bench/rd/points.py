"""What one coding of one picture measured, and the file in which such points are kept between runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Quality:
    """How near the decoded picture is to the original."""

    psnr: float
    """dB; 100 stands for equal pictures, so that a mean exists."""
    ms_ssim: float
    ssimulacra2: float
    lpips: float | None = None
    lpips_weights: str | None = None
    """Digest of the weights that `lpips` was measured with."""
    dists_like: float | None = None
    dists_like_weights: str | None = None


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
        """What two points have in common that are the same measurement."""
        return (self.picture_digest, self.codec, self.setting, self.version)

    @property
    def bpp(self) -> float:
        """Bits of the file over pixels of the original."""
        return 8 * self.coding.bytes / self.pixels

    def flat(self) -> dict[str, Any]:
        """One level of names to values, as reports hold it."""
        values: dict[str, Any] = asdict(self)
        coding, quality = values.pop("coding"), values.pop("quality")
        return {**values, "bpp": self.bpp, **coding, **quality}


class Store:
    """Points in a JSONL file, one a line; of two with one key the later counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points: dict[Key, Point] = {}
        self._pixels: dict[tuple[str, str], list[Point]] = {}
        if path.exists():
            text = path.read_text(encoding="utf-8")
            for line in text.splitlines():
                self._read(line)
            if text and not text.endswith("\n"):  # a run was killed while it wrote
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def get(self, key: Key) -> Point | None:
        """The point that was measured, or None."""
        return self._points.get(key)

    def quality(self, picture_digest: str, decoded_digest: str, measures: str) -> Quality | None:
        """What such measures found before in these very pixels, whoever coded them; None if they have not."""
        points = self._pixels.get((picture_digest, decoded_digest), ())
        return next((point.quality for point in reversed(points) if point.version.endswith(f"; {measures}")), None)

    def add(self, point: Point) -> None:
        """Keep a point, on disk at once."""
        self._keep(point)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(point)) + "\n")

    def _read(self, line: str) -> None:
        try:
            values = json.loads(line)
            coding, quality = Coding(**values.pop("coding")), Quality(**values.pop("quality"))
            point = Point(**values, coding=coding, quality=quality)
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # half a line, or one of another edgesem: it will be measured again
        self._keep(point)

    def _keep(self, point: Point) -> None:
        self._points[point.key] = point
        self._pixels.setdefault((point.picture_digest, point.coding.decoded_digest), []).append(point)
