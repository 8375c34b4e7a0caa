"""Figures of the benches: colours of the codecs, a legend below the panels, and a file that is written whole."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgesem.files import write_whole

_MOST_COLUMNS = 6
_MARGIN = 0.98  # of the figure's width
# Okabe and Ito's colours, told apart by colour-blind eyes; the markers tell them apart in grey
_STYLES = {
    "edgesem": ("#D55E00", "o"),
    "edgesem+1step": ("#E69F00", "o"),
    "edgesem+2step": ("#9C6B00", "o"),
    "edgesem+4step": ("#7A3B00", "o"),
    "avif": ("#0072B2", "s"),
    "avif-s6-ssim": ("#56B4E9", "s"),
    "avif-s9": ("#003F66", "s"),
    "svtav1": ("#000000", "D"),
    "aom": ("#C0A000", "d"),
    "x264": ("#004D40", "p"),
    "x265": ("#8B5FBF", "P"),
    "vvc": ("#5C4033", "X"),
    "webp": ("#009E73", "^"),
    "jpeg": ("#7F7F7F", "v"),
    "jxl": ("#CC79A7", "D"),
}


def style_of(codec: str) -> tuple[str, str]:
    """Colour and marker of a codec, by its name or that of its family (`avif` of `avif-s6+flow`)."""
    whole = codec.removesuffix("-best")
    family = codec.replace("+", "-").split("-")[0]
    return _STYLES.get(whole) or _STYLES.get(family, ("black", "x"))


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
