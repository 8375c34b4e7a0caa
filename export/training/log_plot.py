"""Plot of a training run's log over time."""

from __future__ import annotations

import json
from pathlib import Path

from edgesem.errors import InputError, require


def plot_log(run: Path) -> Path:
    """Draw every figure of `run/log.jsonl` over the minutes into `run/log.png`, and return its path."""
    require("matplotlib", "export")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{run / 'log.jsonl'} is no training log: {error}") from error
    names = [name for name in lines[-1] if name not in ("step", "minutes")]
    figure, panels = pyplot.subplots(len(names), 1, figsize=(7, 2.2 * len(names)), sharex=True, squeeze=False)
    for panel, name in zip(panels[:, 0], names, strict=True):
        points = [(line["minutes"], line[name]) for line in lines if name in line]
        panel.plot(*zip(*points, strict=True), linewidth=1, marker="o" if len(points) == 1 else None)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1, 0].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(run / "log.png", dpi=100)
    pyplot.close(figure)
    return run / "log.png"
