"""Legend of a figure with several panels: below them, in as many columns as the figure has room for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
