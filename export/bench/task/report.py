"""Report of `edgesem bench task`: agreement of each codec at each budget, its ratio to others; data, text and plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.errors import require
from export.bench.figure import save_figure
from export.bench.rd.baselines import ORIGINAL
from export.bench.rd.bd import SMALL, is_tested
from export.bench.task.agreement import Match, PictureContent, f1, match, mean_average_precision
from export.bench.task.measure import Observation

MEASURES = ("f1", "found", "true", "map50", "top1", "top5")
_SMALLER = {"full": ("-half", "-quarter"), "-half": ("-quarter",), "-quarter": ()}
_SEED, _TAIL = 0, 2.5

Grid = dict[tuple[str, int], dict[str, Observation]]
"""(codec, budget) -> picture -> what was seen."""


def summarize(observations: Sequence[Observation], resamples: int = 0) -> dict[str, Any]:
    """The report as plain data.

    codecs: {name: [at each budget: f1, found (share of the original's objects that are in the decoded picture too),
    true (share of the decoded picture's that are in the original too), map50, top1, top5 (does the original's class
    come first, among five; null without classifier), bytes (mean), left_out (share of pictures that did not fit at the
    lowest quality: nothing is seen in them), smaller (share that had to be sent at a smaller size to fit)]}.
    best_size: {family: [at each budget: each measure at the size where it is best]}.
    ratio: {edgesem's name: {other: [at each budget: f1 over the other's best, with where 95 % of resamples lie]}}.
    """
    originals = {s.picture_digest: s.seen for s in observations if s.codec == ORIGINAL and s.seen}
    grid: Grid = defaultdict(dict)
    for one in observations:
        if one.codec != ORIGINAL:
            grid[one.codec, one.budget][one.picture_digest] = one
    budgets = sorted({budget for _, budget in grid})
    names = list(dict.fromkeys(codec for codec, _ in grid))
    codecs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    matches: dict[tuple[str, int], list[Match]] = {}
    for name in names:
        for budget in budgets:
            chosen = {digest: _fitting(grid, name, budget, digest) for digest in originals}
            matches[name, budget] = [match(seen, chosen[digest].seen) for digest, seen in originals.items()]
            pairs = [(seen, chosen[digest].seen) for digest, seen in originals.items()]
            codecs[name].append(_row(name, budget, list(chosen.values()), matches[name, budget], pairs))
    families = {name: [name, *(name + size for size in SMALL if name + size in codecs)] for name in names}
    families = {name: sizes for name, sizes in families.items() if len(sizes) > 1}
    best_size = {
        f"{name}-best": [_best([codecs[size][index] for size in sizes]) for index in range(len(budgets))]
        for name, sizes in families.items()
    }
    return {
        "budgets": budgets,
        "codecs": codecs,
        "best_size": best_size,
        "ratio": _ratios(codecs, families, matches, budgets, resamples),
        "objects": sum(len(seen.sure) for seen in originals.values()),
        "resamples": resamples,
    }


def _fitting(grid: Grid, name: str, budget: int, digest: str) -> Observation:
    """What a codec sent: at its own size, or at the next smaller one that fits."""
    size = next((size for size in SMALL if name.endswith(size)), "full")
    family = name.removesuffix(size)
    for variant in (name, *(family + smaller for smaller in _SMALLER[size])):
        one = grid.get((variant, budget), {}).get(digest)
        if one and one.seen:
            return one
    return grid[name, budget][digest]


def _row(
    name: str,
    budget: int,
    sent: Sequence[Observation],
    matches: Sequence[Match],
    pairs: Sequence[tuple[PictureContent, PictureContent | None]],
) -> dict[str, Any]:
    both = sum(m.both for m in matches)
    original, decoded = sum(m.original for m in matches), sum(m.decoded for m in matches)
    classified = any(seen.classes for seen, _ in pairs)
    sizes = [s.size_bytes for s in sent if s.size_bytes is not None]
    return {
        "budget": budget,
        "pictures": len(sent),
        "bytes": float(np.mean(sizes)) if sizes else None,
        "left_out": float(np.mean([s.seen is None for s in sent])),
        "smaller": float(np.mean([s.codec != name for s in sent])),
        "f1": f1(matches),
        "found": both / original if original else 1.0,
        "true": both / decoded if decoded else 1.0,
        "map50": mean_average_precision(pairs),
        "top1": float(np.mean([b is not None and a.classes[:1] == b.classes[:1] for a, b in pairs]))
        if classified
        else None,
        "top5": float(np.mean([b is not None and a.classes[0] in b.classes for a, b in pairs])) if classified else None,
    }


def _best(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = {name: [row[name] for row in rows if row[name] is not None] for name in MEASURES}
    return {"budget": rows[0]["budget"], **{name: max(some) if some else None for name, some in values.items()}}


def _ratios(
    codecs: Mapping[str, Sequence[Mapping[str, Any]]],
    families: Mapping[str, Sequence[str]],
    matches: Mapping[tuple[str, int], list[Match]],
    budgets: Sequence[int],
    resamples: int,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    pictures = len(next(iter(matches.values()), []))
    draws = np.random.default_rng(_SEED).integers(pictures, size=(resamples, pictures)) if pictures else None
    counts = {key: np.array([(2 * m.both, m.original + m.decoded) for m in some]) for key, some in matches.items()}

    def resampled(name: str, budget: int) -> NDArray[np.float64]:
        sums = counts[name, budget][draws].sum(axis=1)
        return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1), np.float64)

    ratios: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for tested in filter(is_tested, codecs):
        ratios[tested] = {}
        for other in codecs:
            if other == tested or other.endswith(SMALL):
                continue
            ratios[tested][other] = []
            for index, budget in enumerate(budgets):
                size = max(families.get(other, [other]), key=lambda name: float(codecs[name][index]["f1"]))
                mine, theirs = codecs[tested][index]["f1"], codecs[size][index]["f1"]
                interval = None
                drawn = resampled(size, budget) if resamples else np.zeros(1)
                if (drawn > 0).mean() > 1 - _TAIL / 100:  # else there is no upper end
                    quotient = (resampled(tested, budget) / np.maximum(drawn, 1e-9))[drawn > 0]
                    interval = [float(end) for end in np.percentile(quotient, [_TAIL, 100 - _TAIL])]
                row = {"budget": budget, "f1": mine / theirs if theirs else None, "interval": interval, "codec": size}
                ratios[tested][other].append(row)
    return ratios


def as_markdown(report: Mapping[str, Any]) -> str:
    """The table for people."""
    classified = any(row["top1"] is not None for rows in report["codecs"].values() for row in rows)
    lines = [
        f"{len(report['pictures'])} pictures of `{report['data']}` with {report['objects']} objects that the detector "
        "sees in the originals. Bytes: of a VGA frame, in proportion for other sizes; each codec's best quality within "
        "them. *-best*: each codec whole, at half or at quarter size, whichever agrees best (the smaller size wherever "
        "the larger does not fit). Agreement (F1): of the objects seen in original and decoded picture, at an IoU of "
        "0.5; found: share of the original's; true: share of the decoded picture's.",
        "",
        "| codec | bytes | agreement | found | true | mAP |" + (" top-1 | top-5 |" if classified else ""),
        "|---|---:|---:|---:|---:|---:|" + ("---:|---:|" if classified else ""),
    ]
    shown = {name: rows for name, rows in report["codecs"].items() if not name.endswith(SMALL)} | report["best_size"]
    for index, budget in enumerate(report["budgets"]):
        for name in (name for name in shown if f"{name}-best" not in shown):
            row = shown[name][index]
            cells = [row[key] for key in ("f1", "found", "true", "map50", *(("top1", "top5") if classified else ()))]
            lines.append(f"| {name} | {budget} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    for tested, others in report["ratio"].items():
        lines += [
            "",
            f"Agreement of {tested} over that of the other at its best size"
            + (f" (95 % of {report['resamples']} resamples of the pictures)" if report["resamples"] else "")
            + ":",
            "",
            "| against | " + " | ".join(f"{budget} bytes" for budget in report["budgets"]) + " |",
            "|---|" + "---:|" * len(report["budgets"]),
        ]
        lines += [f"| {other} | " + " | ".join(map(_ratio_cell, rows)) + " |" for other, rows in others.items()]
    return "\n".join([*lines, ""])


def _ratio_cell(row: Mapping[str, Any]) -> str:
    if row["f1"] is None:
        return "–"
    interval = f" ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})" if row["interval"] else ""
    return f"{row['f1']:.2f}{interval}"


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Agreement over bytes, as a picture file."""
    require("matplotlib", "bench")
    from matplotlib.figure import Figure

    from export.bench.rd.plot import style

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    panel = figure.subplots()
    shown = report["codecs"] | report["best_size"]
    for name, rows in shown.items():
        if name.endswith(SMALL) or f"{name}-best" in shown:
            continue
        colour, marker, line = style(name)
        panel.plot(report["budgets"], [row["f1"] for row in rows], line, label=name, color=colour, marker=marker)
    panel.set_xscale("log")
    panel.set_xticks(report["budgets"], [str(budget) for budget in report["budgets"]])
    panel.minorticks_off()
    panel.set_xlabel("bytes for a VGA frame")
    panel.set_title("detections that agree with the original's (F1)", fontsize=11)
    panel.grid(alpha=0.25)
    panel.legend(frameon=False)
    save_figure(figure, path)
