"""Plot of `edgesem measure`: a row a judge, and in it information kept, pictures misread, and bits through a link."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.errors import require
from export.bench.figure import legend_below, save_figure, style_of


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write the figure as PNG."""
    require("matplotlib", "measure")
    import matplotlib as mpl
    from matplotlib.figure import Figure  # not pyplot: no display is looked for, and nothing global is touched

    judges, link = report["judges"], report["link"]
    columns = 2 if link is None else 3
    with mpl.rc_context({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.7 * columns, 0.9 + 3.6 * len(judges)), layout="constrained")
        grid = figure.subplots(len(judges), columns, squeeze=False)
        for row, (name, judged) in zip(grid, judges.items(), strict=True):
            _kept(row[0], name, judged)
            _lost(row[1], name, judged)
            if link is not None:
                _useful(row[2], name, judged, link)
        seen: dict[str, Any] = {}
        for panel in grid.flat:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                seen.setdefault(label, handle)
        legend_below(figure, seen.values(), seen.keys())
        figure.suptitle(
            f"{report['pictures']} pictures of {report['data']}: what a judge still learns; real file bytes"
        )
        save_figure(figure, path)


def _kept(panel: Any, name: str, judged: Mapping[str, Any]) -> None:
    for codec, points in judged["codecs"].items():
        shown = [point for point in points if point["kept"]]
        bits = [point["kept"]["bits"] for point in shown]
        low = [point["kept"]["bits"] - point["kept"]["low_bits"] for point in shown]
        high = [point["kept"]["high_bits"] - point["kept"]["bits"] for point in shown]
        panel.errorbar(
            [point["bytes"] for point in shown], bits, yerr=[low, high], label=codec, elinewidth=0.7, **_line_of(codec)
        )
    if entropy := judged["stream"]["semantic_entropy"]:
        panel.axhline(entropy["bits"], color="black", linewidth=0.8, linestyle=":", label="semantic entropy")
    _bytes_axis(panel)
    panel.set_ylabel("bits a picture")
    panel.set_ylim(bottom=0)
    panel.set_title(f"{name}: information kept (95 % interval)", fontsize=10)


def _lost(panel: Any, name: str, judged: Mapping[str, Any]) -> None:
    for codec, points in judged["codecs"].items():
        line = _line_of(codec) | {"linestyle": "none"}
        panel.plot([point["bytes"] for point in points], [point["mismatch"] for point in points], **line)
    for family, corners in judged["hull"].items():
        sizes, shares = zip(*corners, strict=True)
        along = np.linspace(0, sizes[-1], 2000)  # a straight line in bytes is none on this axis
        panel.plot(along, np.interp(along, sizes, shares), color=_line_of(family)["color"], linewidth=1.2)
    panel.set_xscale("symlog", linthresh=min(p["bytes"] for c in judged["codecs"].values() for p in c) / 2)
    panel.set_xlim(left=0)
    panel.set_xlabel("bytes a picture")
    panel.set_ylabel("share of pictures read otherwise")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25)
    panel.set_title(f"{name}: semantic rate and distortion (lines: hulls)", fontsize=10)


def _useful(panel: Any, name: str, judged: Mapping[str, Any], link: Mapping[str, Any]) -> None:
    found = judged["useful"]
    for place, (family, values) in enumerate(found.items()):
        spread = [[values["fixed_bps"] - values["fixed_low_bps"]], [values["fixed_high_bps"] - values["fixed_bps"]]]
        panel.bar(place, values["fixed_bps"], color=_line_of(family)["color"], yerr=spread, width=0.6, capsize=3)
        panel.plot([place - 0.3, place + 0.3], [values["adaptive_bps"]] * 2, color="black", linewidth=1.2)
        panel.annotate(f"{values['bytes']:.0f} B", (place, 0), ha="center", va="bottom", fontsize=8, color="white")
    panel.set_xticks(range(len(found)), list(found))
    panel.set_ylabel("useful bits a second")
    panel.set_title(f"through {link['name'][:28]}, at most {link['most_fps']:g} frames/s", fontsize=10)


def _bytes_axis(panel: Any) -> None:
    panel.set_xscale("log")
    panel.set_xlabel("bytes a picture")
    panel.grid(alpha=0.25)


def _line_of(codec: str) -> dict[str, Any]:
    colour, marker = style_of(codec.split("+")[0])
    small = codec.endswith(("-half", "-quarter"))
    return {
        "color": colour,
        "marker": marker,
        "markersize": 4,
        "markerfacecolor": "white" if small else colour,
        "linestyle": "--" if small else "-",
        "linewidth": 2.2 if codec == "edgesem" else 1.2,
    }
