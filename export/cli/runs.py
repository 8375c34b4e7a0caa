"""Training runs at the console: the options that were given, progress while one goes on, and its plot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from edgesem.cli.console import log, progress
from edgesem.errors import UsageError

_LINE_S = 60.0  # between two lines of progress, where there is no terminal


def given_options(crop: int | None, **options: float | None) -> dict[str, Any]:
    """The options that were given, by name; the others are left to the defaults of the run's settings."""
    if crop is not None and crop % 16:
        raise UsageError(f"--crop must be a multiple of 16, got {crop}")
    return {name: value for name, value in {"crop": crop, **options}.items() if value is not None}


def shown_run(work: Callable[[Callable[[float, dict[str, Any]], None]], Path]) -> dict[str, Any]:
    """Do the work of a run under a progress bar; the weights' file, threads, and the last figures that were shown.

    Where there is no terminal, a line a minute tells how far it is.
    """
    import torch

    last: dict[str, Any] = {}
    told_s = -math.inf
    with progress("reading photographs") as bar:

        def show(done: float, figures: dict[str, Any]) -> None:
            nonlocal told_s
            last.update(figures)
            text = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
            bar.update(done, what=text)
            if not log.is_terminal and time.monotonic() - told_s >= _LINE_S:
                told_s = time.monotonic()
                log.print(Text(f"{done:.1%}  {text}"), soft_wrap=True)

        weights = work(show)
    return {"weights": weights, "threads": torch.get_num_threads(), **last}


def plotted(run: Path, wanted: bool) -> dict[str, Path]:
    """The plot of a run's log, drawn if it is wanted and there is a log."""
    if not wanted or not (run / "log.jsonl").stat().st_size:
        return {}
    from export.training.log_plot import plot_log

    return {"plot": plot_log(run)}
