"""Plot of `edgesem bench rd`: quality against rate, one panel a metric, one colour a codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.errors import require
from export.bench.figure import legend_below, save_figure, style_of
from export.bench.rd.bd import SMALL, is_tested
from export.bench.rd.codecs import CONTROL
from export.bench.rd.scores import SCORES, titles

_RANGE_BPP = (0.03, 0.6)
_TICKS_BPP = (0.03, 0.05, 0.1, 0.2, 0.3, 0.6)
_COLUMNS = 3
_MS_SSIM_TICKS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write the rate-distortion plot as PNG (or what the file's ending says).

    Solid lines are codecs at full size, dashed ones a codec at the best of full, half and quarter size, dotted ones
    such a codec's pictures redrawn by edgesem's flow decoder.
    """
    require("matplotlib", "bench")
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: no display is looked for, and nothing global is touched

    codecs = report["codecs"]
    metrics = report["metrics"]
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        columns = min(len(metrics), _COLUMNS)
        rows = -(-len(metrics) // columns)
        figure = Figure(figsize=(4.6 * columns, 0.6 + 4.4 * rows), layout="constrained")
        panels = np.ravel(figure.subplots(rows, columns))
        for empty in panels[len(metrics) :]:
            empty.set_visible(False)
        for panel, metric in zip(panels[: len(metrics)], metrics, strict=True):
            for name in sorted(codecs, key=is_tested):  # edgesem last in the legend
                if name.endswith(SMALL):
                    continue
                best = report["best_size"].get(f"{name}-best")
                if CONTROL not in name or not best:
                    _draw(panel, name, codecs[name], metric)
                if best:
                    _draw(panel, f"{name}-best", best[metric], metric)
            (title,) = titles([metric], report["trained_on"])
            _axes(panel, metric, title)
        legend_below(figure, *panels[0].get_legend_handles_labels())
        figure.suptitle(f"{len(report['pictures'])} pictures of {report['data']}: means, rates from real files")
        save_figure(figure, path)


def style(name: str) -> tuple[str, str, str]:
    """Colour, marker and line of a codec."""
    colour, marker = style_of(name)
    return colour, marker, ":" if CONTROL in name else "--" if name.endswith("-best") else "-"


def _draw(panel: Any, name: str, curve: Any, metric: str) -> None:
    colour, marker, line = style(name)
    shown = [mean for mean in curve if _RANGE_BPP[0] / 1.3 < mean["bpp"] < _RANGE_BPP[1] * 1.3]
    strong = is_tested(name)
    panel.plot(
        [mean["bpp"] for mean in shown],
        [mean[metric] for mean in shown],
        line,
        label=name,
        color=colour,
        marker=marker if line == "-" else None,
        markersize=5 if strong else 4,
        linewidth=2.6 if strong else 1.5,
        zorder=3 if strong else 2,
    )


def _axes(panel: Any, metric: str, title: str) -> None:
    panel.set_xscale("log")
    panel.set_xlim(*_RANGE_BPP)
    panel.set_xticks(_TICKS_BPP, [f"{bpp:g}" for bpp in _TICKS_BPP])
    panel.minorticks_off()
    panel.set_xlabel("bits per pixel")
    panel.set_title(title, fontsize=11)
    panel.grid(alpha=0.25)
    if metric == "ms_ssim":  # as -log(1 - x), else all that is good is squeezed into the top
        low, high = panel.get_ylim()
        panel.set_yscale("function", functions=(lambda y: -np.log10(np.maximum(1 - y, 1e-6)), lambda z: 1 - 10.0**-z))
        ticks = [tick for tick in _MS_SSIM_TICKS if low <= tick <= high]
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_ylim(low, min(high, 0.995))
    if SCORES[metric].falls:
        panel.set_title(f"{title} (axis turned: up is better)", fontsize=11)
        panel.invert_yaxis()
