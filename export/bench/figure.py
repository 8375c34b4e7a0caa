"""Figures of the benches: a legend below the panels, and a file that is written whole."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgesem.files import write_whole

_MOST_COLUMNS = 6
_MARGIN = 0.98  # of the figure's width


def legend_below(figure: Any, handles: Iterable[Any], labels: Iterable[str]) -> None:
    """Put a legend below the panels of a matplotlib figure, none of it outside of the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    handles, labels = list(handles), list(labels)
    for columns in range(min(_MOST_COLUMNS, max(1, len(labels))), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        if columns == 1 or legend.get_window_extent(renderer).width <= _MARGIN * figure.bbox.width:
            return
        legend.remove()


def save_figure(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as PNG. Raises InputError where that cannot be done; no half a file is left."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    write_whole(path, stream.getvalue())
