"""Rate-quality curves: the means over pictures, of all or of a resample, and the best size at each rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.quality.metrics import pchip
from export.bench.rd.points import Point
from export.bench.rd.scores import SCORES

TIMES = ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")
_NAMES = ("bytes", "bpp", "payload_bytes", "payload_bpp", *SCORES, *TIMES)
_GRID = 48  # rates at which the best size is looked for

Curve = Sequence[Mapping[str, Any]]
"""The means at each setting, rising in rate: bpp, psnr, ms_ssim, ..."""


class Table:
    """All points of a run as numbers: codec -> setting -> picture."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.pictures = sorted({point.picture for point in points})
        row = {picture: index for index, picture in enumerate(self.pictures)}
        self._values: dict[str, dict[float, NDArray[np.float64]]] = defaultdict(dict)
        for point in points:
            empty = np.full((len(_NAMES), len(row)), np.nan)
            values = self._values[point.codec].setdefault(point.setting, empty)
            flat = point.flat()
            values[:, row[point.picture]] = [np.nan if flat[name] is None else flat[name] for name in _NAMES]

    def curves(self, weights: NDArray[np.float64] | None = None) -> dict[str, list[dict[str, Any]]]:
        """The means of each codec at each setting; weights: how much each picture counts, summing to 1.

        A value that one picture lacks is None: a mean of some pictures only would mislead.
        """
        if weights is None:
            weights = np.full(len(self.pictures), 1 / len(self.pictures))
        return {
            codec: sorted(
                ({"setting": setting, **self._mean(values, weights)} for setting, values in settings.items()),
                key=lambda mean: float(mean["bpp"]),
            )
            for codec, settings in self._values.items()
        }

    def of_payloads(self) -> Table:
        """The same points at the rates of their payloads, without what containers take."""
        other = Table(())
        other.pictures = self.pictures
        rate, payload = _NAMES.index("bpp"), _NAMES.index("payload_bpp")
        for codec, settings in self._values.items():
            for setting, values in settings.items():
                moved = values.copy()
                known = np.isfinite(values[payload])
                moved[rate, known] = values[payload, known]
                other._values[codec][setting] = moved
        return other

    def _mean(self, values: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, Any]:
        means = (values @ weights).tolist()
        named = {name: None if math.isnan(mean) else mean for name, mean in zip(_NAMES, means, strict=True)}
        return {"pictures": len(self.pictures), **named}


def measured(curve: Curve) -> list[str]:
    """The metrics that this curve has."""
    return [metric for metric in SCORES if curve[0][metric] is not None]


def common(curves: Mapping[str, Curve]) -> list[str]:
    """The metrics that all these curves have."""
    return [metric for metric in SCORES if all(metric in measured(curve) for curve in curves.values())]


def families(codecs: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """`avif-s6-best` -> the curves of AVIF at its sizes, for all that were measured at more than one."""
    found: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in codecs.items():
        found[family_of(name)][name] = curve
    return {f"{family}-best": curves for family, curves in found.items() if len(curves) > 1}


def family_of(codec: str) -> str:
    """`avif-s6` of `avif-s6-half`: a codec without the size at which it codes."""
    return codec.removesuffix("-half").removesuffix("-quarter")


def envelope(curves: Mapping[str, Curve], metric: str) -> list[dict[str, Any]]:
    """The best that any of the curves gives, at rates from the lowest to the highest of all."""
    rates = [mean["bpp"] for curve in curves.values() for mean in curve]
    inner = np.geomspace(min(rates), max(rates), _GRID)[1:-1]  # rounding might carry the ends out of the range
    grid = np.array([min(rates), *inner, max(rates)])
    return [
        {"bpp": bpp, "codec": found[0], metric: found[1]}
        for bpp, found in zip(grid.tolist(), best(curves, metric, grid), strict=True)
        if found
    ]


def best(curves: Mapping[str, Curve], metric: str, bpp: NDArray[np.float64]) -> list[tuple[str, float] | None]:
    """Name and value of the curve that is best at each rate; None beyond the ends of all of them."""
    names = list(curves)
    values = np.stack([interpolated(curves[name], metric, bpp) for name in names])
    values[:, bpp > max(curve[-1]["bpp"] for curve in curves.values())] = np.nan
    score = np.where(np.isnan(values), -np.inf, -values if SCORES[metric].falls else values)
    winner = score.argmax(axis=0)
    return [
        None if np.isnan(values[row, column]) else (names[row], float(values[row, column]))
        for column, row in enumerate(winner.tolist())
    ]


def interpolated(curve: Curve, name: str, bpp: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values at rates; above the curve's end the last one (nobody must spend more), NaN below its start."""
    rates = sorted({mean["bpp"]: mean[name] for mean in curve}.items())
    if len(rates) < 2:
        return np.full(len(bpp), np.nan)
    x, y = np.array(rates, dtype=np.float64).T
    values = pchip(np.log(x), y, np.log(np.clip(bpp, x[0], x[-1])))
    return np.where(bpp < x[0], np.nan, values)
