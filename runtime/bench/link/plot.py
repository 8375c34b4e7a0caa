"""Plot of a bench run over time: capacity of the link, rate and delay of each sender."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesem.errors import require
from edgesem.files import write_whole

_CAPACITY, _ESTIMATE = "#c9ced6", "#7a8594"
_INK = {
    "edgesem": "#0b7fab",
    "fixed": "#b3261e",
    "fixed_newest": "#d98324",
    "aimd": "#7d4fa3",
    "whole": "#4c8c4a",
    "oracle": "#444444",
}


def draw(title: str, runs: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: a row of capacity and delivered rate for each sender, and one of base-layer delays for all."""
    require("matplotlib", "bench")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.5 * len(runs) + 3.2), dpi=110, layout="constrained")
    axes = figure.subplots(len(runs) + 1, 1, sharex=True, height_ratios=[1] * len(runs) + [1.6], squeeze=False)[:, 0]
    for axis, (name, run) in zip(axes, runs.items(), strict=False):
        capacity = [rate / 1000 for rate in run["capacity_bps"]]
        delivered = [rate / 1000 for rate in run["delivered_bps"]]
        axis.fill_between(run["time_s"], capacity, step="post", color=_CAPACITY, linewidth=0, label="link")
        axis.step(run["time_s"], delivered, where="post", color=_INK.get(name, "black"), linewidth=1.2, label=name)
        known = [
            (at, rate / 1000) for at, rate in zip(run["estimate_time_s"], run["estimate_bps"], strict=False) if rate
        ]
        if known:
            axis.plot(*zip(*known, strict=True), color=_ESTIMATE, linewidth=0.6, label="estimate")
        axis.set_ylim(0, 1.15 * max(capacity))
        axis.set_ylabel("kbit/s")
        axis.legend(loc="upper right", fontsize=7, ncols=3, frameon=False)
        axes[-1].plot(
            run["delay_time_s"],
            run["base_delay_s"],
            ".",
            markersize=2.5,
            color=_INK.get(name, "black"),
            label=name,
        )
    axes[-1].set_yscale("log")
    axes[-1].set_ylabel("base layer delay, s")
    axes[-1].set_xlabel("seconds")
    axes[-1].grid(axis="y", linewidth=0.3)
    axes[-1].legend(loc="upper right", fontsize=7, ncols=6, markerscale=3, frameon=False)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())
