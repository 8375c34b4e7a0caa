"""Report of `edgesem bench rd`: means, the best size at each rate, BD-rate, times; as plain data and as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from export.bench.rd.bd import SMALL, bd_rates, is_tested
from export.bench.rd.curves import TIMES, Curve, Table, best, common, envelope, families, interpolated
from export.bench.rd.points import Point
from export.bench.rd.scores import SCORES, honest_order, titles

BD_RANGE_BPP = (0.04, 0.2)
TABLE_BPP = (0.03, 0.05, 0.1, 0.2, 0.4)


def summarize(
    points: Sequence[Point],
    *,
    range_bpp: tuple[float, float] = BD_RANGE_BPP,
    at_bpp: Sequence[float] = TABLE_BPP,
    resamples: int = 0,
    done: Callable[[], None] = lambda: None,
    trained_on: Collection[str] | None = (),
) -> dict[str, Any]:
    """The report as plain data. metrics: those that all codecs have, first those that training did not see.

    trained_on: the measures that training saw; None where nobody knows. container_bytes: what a file of each codec
    holds beside the coded picture, in the mean. bd_rate_payload: bd_rate without these bytes and without intervals.
    codecs: {name: [means over the pictures, at each setting]}. best_size: {family: {metric: curve}}, where at each rate
    stands the codec whose interpolated curve is highest there. at_bpp: {name: {rate: values}}, for a best size with the
    times of the best by MS-SSIM. bd_rate: see `export.bench.rd.bd.bd_rates`, which `resamples` and `done` are for too.
    """
    table = Table(points)
    codecs = table.curves()
    sizes = families(codecs)
    rows = {name: {name: curve} for name, curve in codecs.items()} | sizes
    return {
        "metrics": honest_order(common(codecs), trained_on),
        "trained_on": None if trained_on is None else list(trained_on),
        "container_bytes": {name: _container_bytes(curve) for name, curve in codecs.items()},
        "codecs": codecs,
        "best_size": {family: {m: envelope(curves, m) for m in common(curves)} for family, curves in sizes.items()},
        "at_bpp": {name: {f"{bpp:g}": _at(curves, bpp) for bpp in at_bpp} for name, curves in rows.items()},
        "bd_rate": bd_rates(table, range_bpp, resamples=resamples, done=done),
        "bd_rate_payload": bd_rates(table.of_payloads(), range_bpp),
        "bd_rate_bpp": list(range_bpp),
        "bd_rate_resamples": resamples,
        "timing_runs": {name: sorted({p.coding.run for p in points if p.codec == name}) for name in codecs},
    }


def _container_bytes(curve: Curve) -> float | None:
    if any(mean["payload_bytes"] is None for mean in curve):
        return None
    return float(np.mean([mean["bytes"] - mean["payload_bytes"] for mean in curve]))


def _at(curves: Mapping[str, Curve], bpp: float) -> dict[str, float | None]:
    """The best values at a rate, each metric for itself, and the times of the best by MS-SSIM."""
    rate = np.array([bpp])
    found = {metric: best(curves, metric, rate)[0] for metric in common(curves)}
    chosen = found["ms_ssim"]
    times = {name: float(interpolated(curves[chosen[0]], name, rate)[0]) if chosen else None for name in TIMES}
    return {metric: value and value[1] for metric, value in found.items()} | times


def as_markdown(report: Mapping[str, Any]) -> str:
    """The tables that matter, for people."""
    metrics = report["metrics"]
    lines = [
        f"{len(report['pictures'])} pictures of `{report['data']}`. bpp: bits of the file over pixels of the original; "
        "values at a rate are interpolated between settings. *-best*: coded whole, or at half or quarter size and "
        "enlarged, whichever is best at that rate by that measure. *+flow*: that codec's picture, redrawn by edgesem's "
        f"flow decoder. Times: means of processor time, on one thread of {report['machine']['processor']} (the JSON's "
        "*encode_s* is by the clock, with whatever else was running).",
        "",
        independence(report),
        "",
        *_header(report),
    ]
    rates = list(next(iter(report["at_bpp"].values())))
    for bpp in rates:
        for name, values in report["at_bpp"].items():
            if not name.endswith(SMALL) and values[bpp]["ms_ssim"] is not None:
                lines.append(_row(name, bpp, values[bpp], metrics))
    if len({tuple(runs) for runs in report["timing_runs"].values()}) > 1:
        lines += ["", "The times were not all taken in one run, so do not compare them closely."]
    for tested in report["bd_rate"]:
        lines += ["", *_bd_table(report, tested)]
    if report.get("stages"):
        lines += ["", *_stage_table(report["stages"])]
    return "\n".join([*lines, ""])


def settings_as_markdown(report: Mapping[str, Any]) -> str:
    """The table of every setting that was measured."""
    metrics = report["metrics"]
    lines = ["All settings that were measured:", "", *_header(report)]
    for name, curve in report["codecs"].items():
        lines += [_row(f"{name} {mean['setting']:g}", f"{mean['bpp']:.3f}", mean, metrics) for mean in curve]
    return "\n".join([*lines, ""])


def independence(report: Mapping[str, Any]) -> str:
    """A sentence on which of the measures training saw."""
    seen, metrics = report["trained_on"], report["metrics"]
    if seen is None:
        return "Which of these measures training saw is not known: the bundle does not say."
    fresh = [SCORES[metric].title for metric in metrics if metric not in seen]
    if not fresh:
        return "Training saw each of these measures, so none is an independent judge."
    return f"Training saw {fresh[0]} never" + (f", nor {' nor '.join(fresh[1:])}" if fresh[1:] else "") + "."


def _header(report: Mapping[str, Any]) -> list[str]:
    columns = ["codec", "bpp", *titles(report["metrics"], report["trained_on"]), "enc ms", "dec ms"]
    return ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]


def _row(name: str, bpp: str, values: Mapping[str, Any], metrics: Sequence[str]) -> str:
    cells = ["–" if values[m] is None else f"{values[m]:.{SCORES[m].digits}f}" for m in metrics]
    cells += ["–" if values[t] is None else f"{1000 * values[t]:.1f}" for t in ("encode_cpu_s", "decode_cpu_s")]
    return f"| {name} | {bpp} | " + " | ".join(cells) + " |"


def _bd_table(report: Mapping[str, Any], tested: str) -> list[str]:
    metrics, (low, high) = report["metrics"], report["bd_rate_bpp"]
    intervals = (
        f"; from–to: where 95 % of {report['bd_rate_resamples']} resamples of the pictures lie"
        if report["bd_rate_resamples"]
        else ""
    )
    lines = [
        f"Bytes of `{tested}` at equal quality (BD-rate), over the qualities that it has between {low:g} and {high:g} "
        f"bpp; in brackets the share of these that the other codec reaches, if not all{intervals}:",
        "",
        "| against | " + " | ".join(titles(metrics, report["trained_on"])) + " | container |",
        "|---|" + "---:|" * (len(metrics) + 1),
    ]
    for name, found in report["bd_rate"][tested].items():
        container = report["container_bytes"].get(name.removesuffix("-best"))
        cells = [
            *(_bd_cell(found.get(metric)) for metric in metrics),
            "–" if container is None else f"{container:.0f} bytes",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    payload = report["bd_rate_payload"][tested]
    less = [name for name in payload if report["container_bytes"].get(name.removesuffix("-best"))]
    if less:
        shown = [f"{name} {_percents(payload[name], metrics)}" for name in less]
        lines += [
            "",
            f"Without the containers' bytes ({', '.join(SCORES[m].title for m in metrics)}): {'; '.join(shown)}.",
        ]
    return lines


def _percents(found: Mapping[str, Any], metrics: Sequence[str]) -> str:
    values = [found.get(metric) for metric in metrics]
    return ", ".join(f"{value['percent']:+.1f} %" if value else "–" for value in values)


def _bd_cell(value: Mapping[str, Any] | None) -> str:
    if not value:
        return "–"
    cell = f"{value['percent']:+.1f} %"
    if interval := value.get("interval"):
        cell += f", {interval[0]:+.0f} to {interval[1]:+.0f}"
    return cell if value["covered"] > 0.995 else f"{cell} ({value['covered']:.0%})"


def _stage_table(stages: Mapping[str, Any]) -> list[str]:
    anchors = list(stages["ratio"])
    lines = [
        f"Processor time on one thread, one run, the codecs in turn, {stages['pictures']} pictures, at "
        f"{stages['bpp']:g} bpp or the lowest rate that a codec has; the least of {stages['rounds']} rounds; "
        f"edgesem runs {' and '.join(choice['graph'] for choice in stages['graphs'].values())}:",
        "",
        "| codec | bpp | | ms |" + "".join(f" × {anchor} |" for anchor in anchors),
        "|---|---:|---|---:|" + "---:|" * len(anchors),
    ]
    for name, timed in stages["codecs"].items():
        for stage, seconds in timed["stages"].items():
            ratios = [stages["ratio"][anchor].get(stage) if is_tested(name) else None for anchor in anchors]
            cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
            lines.append(" | ".join([f"| {name}", f"{timed['bpp']:.3f}", stage, f"{1e3 * seconds:.1f}", *cells]) + " |")
    return lines
