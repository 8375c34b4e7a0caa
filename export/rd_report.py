"""What the points say: means, the best size at each rate, BD-rate, as plain data and as text."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from edgesem.quality import bd_rate, ms_ssim_db, pchip
from export.rd_points import Point

TESTED = "edgesem"
SMALL = ("-half", "-quarter")  # measured and in the JSON, but tabled and drawn as part of "-best" only
BD_RANGE_BPP = (0.05, 0.2)
TABLE_BPP = (0.05, 0.1, 0.2, 0.4)
# A number that rises with quality, in steps that look alike: what curves are compared by
_SCORES: dict[str, Callable[[float], float]] = {
    "psnr": float,
    "ms_ssim": ms_ssim_db,
    "ssimulacra2": float,
    "lpips": lambda value: -value,
}
TITLES = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2", "lpips": "LPIPS"}
_DIGITS = {"psnr": 2, "ms_ssim": 4, "ssimulacra2": 1, "lpips": 3}
_TIMES = ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s")

Curve = Sequence[Mapping[str, Any]]
"""The means at each setting, rising in rate: bpp, psnr, ms_ssim, ..."""


def summarize(points: Sequence[Point]) -> dict[str, Any]:
    """The report as plain data. metrics: those that all codecs have.

    codecs: {name: [means over the pictures, at each setting]}. best_size: {family: {metric: curve}}, where at each rate
    stands the codec whose interpolated curve is highest there. at_bpp: {name: {rate: values}}, for a best size with the
    times of the best by MS-SSIM. bd_rate: {anchor: {metric: edgesem against it, null where they share no quality}}.
    """
    codecs = _means(points)
    families: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in codecs.items():
        families[_family(name)][name] = curve
    sizes = {f"{family}-best": curves for family, curves in families.items() if len(curves) > 1}
    best_size = {family: {m: _envelope(curves, m) for m in _common(curves)} for family, curves in sizes.items()}
    rows = {name: {name: curve} for name, curve in codecs.items()} | sizes
    return {
        "metrics": _common(codecs),
        "codecs": codecs,
        "best_size": best_size,
        "at_bpp": {name: {str(bpp): _at(curves, bpp) for bpp in TABLE_BPP} for name, curves in rows.items()},
        "bd_rate": _bd_rates(codecs, best_size),
        "bd_rate_bpp": list(BD_RANGE_BPP),
        "timing_runs": {name: sorted({p.coding.run for p in points if p.codec == name}) for name in codecs},
    }


def measured(curve: Curve) -> list[str]:
    """The metrics that this curve has."""
    return [metric for metric in _SCORES if curve[0][metric] is not None]


def _family(name: str) -> str:
    return name.removesuffix("-half").removesuffix("-quarter")


def _means(points: Sequence[Point]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, dict[float, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        groups[point.codec][point.setting].append(point.flat())
    names = ("bytes", "bpp", *_SCORES, *_TIMES)
    return {
        codec: sorted(
            (
                {"setting": setting, "pictures": len(some), **{name: _mean([p[name] for p in some]) for name in names}}
                for setting, some in settings.items()
            ),
            key=lambda mean: mean["bpp"],
        )
        for codec, settings in groups.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, or None if one picture lacks the value: a mean of some pictures only would mislead."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _envelope(curves: Mapping[str, Curve], metric: str) -> list[dict[str, Any]]:
    """The best that any of the curves gives, at rates from the lowest to the highest of all."""
    rates = [mean["bpp"] for curve in curves.values() for mean in curve]
    grid = np.geomspace(min(rates), max(rates), 48)[1:-1]  # rounding might carry the ends out of the range
    best = [(float(bpp), _best(curves, metric, float(bpp))) for bpp in (min(rates), *grid, max(rates))]
    return [{"bpp": bpp, "codec": found[0], metric: found[1]} for bpp, found in best if found]


def _best(curves: Mapping[str, Curve], metric: str, bpp: float) -> tuple[str, float] | None:
    """Name and value of the curve that is best at a rate; None beyond the ends of all of them."""
    if bpp > max(curve[-1]["bpp"] for curve in curves.values()):
        return None
    values = {name: _interpolated(curve, metric, bpp) for name, curve in curves.items()}
    known = [(name, value) for name, value in values.items() if value is not None]
    return max(known, key=lambda item: _SCORES[metric](item[1]), default=None)


def _at(curves: Mapping[str, Curve], bpp: float) -> dict[str, float | None]:
    """The best values at a rate, each metric for itself, and the times of the best by MS-SSIM."""
    best = {metric: _best(curves, metric, bpp) for metric in _common(curves)}
    values = {metric: found and found[1] for metric, found in best.items()}
    chosen = best["ms_ssim"]
    return values | {name: chosen and _interpolated(curves[chosen[0]], name, bpp) for name in _TIMES}


def _common(curves: Mapping[str, Curve]) -> list[str]:
    return [metric for metric in _SCORES if all(metric in measured(curve) for curve in curves.values())]


def _interpolated(curve: Curve, name: str, bpp: float) -> float | None:
    """The value at a rate; above the curve's end the last one (nobody must spend more), None below its start."""
    rates = sorted({mean["bpp"]: mean[name] for mean in curve}.items())
    if len(rates) < 2 or bpp < rates[0][0]:
        return None
    x, y = np.array(rates, dtype=np.float64).T
    return float(pchip(np.log(x), y, np.array([math.log(min(bpp, rates[-1][0]))]))[0])


def _bd_rates(codecs: Mapping[str, Curve], best_size: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    """edgesem against each codec, and against each family's best size at every rate."""
    if TESTED not in codecs:
        return {}
    tested = codecs[TESTED]
    anchors: dict[str, Mapping[str, Curve]] = {
        name: dict.fromkeys(measured(curve), curve) for name, curve in codecs.items() if name != TESTED
    }
    rates: dict[str, Any] = {}
    for name, curves in (anchors | dict(best_size)).items():
        rates[name] = {}
        for metric, curve in curves.items():
            if metric in measured(tested):
                found = bd_rate(_scored(curve, metric), _scored(tested, metric), BD_RANGE_BPP)
                rates[name][metric] = found and asdict(found)
    return rates


def _scored(curve: Curve, metric: str) -> list[tuple[float, float]]:
    return [(mean["bpp"], _SCORES[metric](mean[metric])) for mean in curve]


def as_markdown(report: Mapping[str, Any]) -> str:
    """The tables that matter, for people."""
    metrics = report["metrics"]
    lines = [
        f"{len(report['pictures'])} pictures of `{report['data']}`. bpp: bits of the file over pixels of the original; "
        "values at a rate are interpolated between settings. *-best*: coded whole, or at half or quarter size and "
        "enlarged, whichever is best at that rate by that measure. Times: means of processor time, on one thread of "
        f"{report['machine']['processor']} (the JSON's *encode_s* is by the clock, with whatever else was running).",
        "",
        *_header(metrics),
    ]
    for bpp in map(str, TABLE_BPP):
        for name, rates in report["at_bpp"].items():
            if not name.endswith(SMALL) and rates[bpp]["ms_ssim"] is not None:
                lines.append(_row(name, bpp, rates[bpp], metrics))
    if len({tuple(runs) for runs in report["timing_runs"].values()}) > 1:
        lines += ["", "The times were not all taken in one run, so do not compare them closely (--retime does that)."]
    if report["bd_rate"]:
        lines += ["", *_bd_table(report, metrics)]
    return "\n".join([*lines, ""])


def settings_as_markdown(report: Mapping[str, Any]) -> str:
    """The table of every setting that was measured."""
    metrics = report["metrics"]
    lines = ["All settings that were measured:", "", *_header(metrics)]
    for name, curve in report["codecs"].items():
        lines += [_row(f"{name} {mean['setting']:g}", f"{mean['bpp']:.3f}", mean, metrics) for mean in curve]
    return "\n".join([*lines, ""])


def _header(metrics: Sequence[str]) -> list[str]:
    titles = ["codec", "bpp", *(TITLES[metric] for metric in metrics), "enc ms", "dec ms"]
    return ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]


def _row(name: str, bpp: str, values: Mapping[str, Any], metrics: Sequence[str]) -> str:
    cells = ["–" if values[m] is None else f"{values[m]:.{_DIGITS[m]}f}" for m in metrics]
    cells += ["–" if values[t] is None else f"{1000 * values[t]:.1f}" for t in ("encode_cpu_s", "decode_cpu_s")]
    return f"| {name} | {bpp} | " + " | ".join(cells) + " |"


def _bd_table(report: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    low, high = report["bd_rate_bpp"]
    lines = [
        f"Bytes of edgesem at equal quality (BD-rate), over the qualities that it has between {low} and {high} bpp; "
        "in brackets the share of these that the other codec reaches, if not all:",
        "",
        "| against | " + " | ".join(TITLES[metric] for metric in metrics) + " |",
        "|---|" + "---:|" * len(metrics),
    ]
    for name, found in report["bd_rate"].items():
        if name.endswith(SMALL):
            continue
        cells = []
        for metric in metrics:
            value = found.get(metric)
            share = "" if not value or value["covered"] > 0.995 else f" ({value['covered']:.0%})"
            cells.append(f"{value['percent']:+.1f} %{share}" if value else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
