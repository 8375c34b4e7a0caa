"""BD-rates: bytes of edgesem over those of each other codec at equal quality, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from edgesem.quality.metrics import bd_rate
from export.bench.rd.curves import Curve, Table, common, envelope, families, measured
from export.bench.rd.scores import SCORES

SMALL = ("-half", "-quarter")  # measured and in the JSON, but compared and drawn as part of "-best" only
CONFIDENCE = 0.95
_SEED = 0

Rates = dict[str, dict[str, dict[str, dict[str, Any] | None]]]
"""tested -> anchor -> metric -> percent and what it rests on, None where the two share no quality."""


def bd_rates(
    table: Table,
    range_bpp: tuple[float, float],
    *,
    resamples: int = 0,
    done: Callable[[], None] = lambda: None,
) -> Rates:
    """Each of edgesem's decoders against each codec, and against each one's best size at every rate.

    resamples: how often the pictures are drawn again, with repetition, the same for both curves of a pair (a paired
    bootstrap); `interval` is where 95 % of these results lie, None without resamples or where a tenth of them cannot
    be compared. done: is told when a resample is done.
    """
    rates = _once(table.curves(), range_bpp)
    random, count = np.random.default_rng(_SEED), len(table.pictures)
    drawn = []
    for _ in range(resamples if count > 1 else 0):
        weights = np.bincount(random.integers(count, size=count), minlength=count) / count
        drawn.append(_once(table.curves(weights), range_bpp))
        done()
    for tested, anchors in rates.items():
        for anchor, metrics in anchors.items():
            for metric, found in metrics.items():
                if found:
                    again = [other["percent"] for once in drawn if (other := once[tested][anchor].get(metric))]
                    found["interval"] = _interval(again) if len(again) > 0.9 * len(drawn) else None
    return rates


def is_tested(name: str) -> bool:
    """Whether a codec is one of edgesem's decoders, which all others are compared with."""
    return name == "edgesem" or name.startswith("edgesem+")


def _interval(values: list[float]) -> list[float]:
    tail = 50 * (1 - CONFIDENCE)
    return [float(end) for end in np.percentile(values, [tail, 100 - tail])]


def _once(codecs: Mapping[str, Curve], range_bpp: tuple[float, float]) -> Rates:
    anchors: dict[str, Mapping[str, Curve]] = {
        name: dict.fromkeys(measured(curve), curve) for name, curve in codecs.items() if not name.endswith(SMALL)
    }
    for family, curves in families(codecs).items():
        anchors[family] = {metric: envelope(curves, metric) for metric in common(curves)}
    rates: Rates = {}
    for tested in filter(is_tested, codecs):
        rates[tested] = {}
        for anchor, by_metric in anchors.items():
            if anchor == tested:
                continue
            rates[tested][anchor] = {}
            for metric, curve in by_metric.items():
                if metric in measured(codecs[tested]):
                    found = bd_rate(_scored(curve, metric), _scored(codecs[tested], metric), range_bpp)
                    rates[tested][anchor][metric] = asdict(found) if found else None
    return rates


def _scored(curve: Curve, metric: str) -> list[tuple[float, float]]:
    return [(mean["bpp"], SCORES[metric].rising(mean[metric])) for mean in curve]
