"""Plot of `edgesem bench video`: quality against bytes a frame, one panel a frame rate, one colour a codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgesem.errors import require
from edgesem.quality.metrics import ms_ssim_db
from export.bench.figure import legend_below, save_figure, style_of

_SOLID = ("edgesem-reference", "svtav1-p8", "x264-veryfast", "x265-medium", "avif-s8")
_TICKS = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99)


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write the plot as PNG (or what the file's ending says)."""
    require("matplotlib", "bench")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rates = [f"{rate:g}" for rate in report["fps"]]
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4.6 * len(rates), 4.6), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(rates), sharey=True))
        for panel, rate in zip(panels, rates, strict=True):
            for name, found in report["codecs"].items():
                rows = found[rate]
                style = "-" if name in _SOLID else "--"
                panel.plot(
                    [row["bytes_per_frame"] for row in rows],
                    [ms_ssim_db(row["ms_ssim"]) for row in rows],
                    style,
                    marker="o",
                    color=style_of(name)[0],
                    label=name,
                )
            panel.set_xscale("log")
            panel.set_xlabel("bytes a frame")
            panel.set_title(f"{rate} frames a second")
            panel.grid(alpha=0.3)
        panels[0].set_yticks([ms_ssim_db(tick) for tick in _TICKS], [f"{tick:g}" for tick in _TICKS])
        panels[0].set_ylabel("MS-SSIM")
        legend_below(figure, *panels[0].get_legend_handles_labels())
        save_figure(figure, path)
