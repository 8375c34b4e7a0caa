"""The legend below the panels of a figure: whole, however narrow the figure is."""

import pytest

from export.bench.figure import legend_below


@pytest.mark.parametrize("width", [2.5, 4.6, 9.2, 23])
def test_no_part_of_the_legend_is_outside_of_the_figure(width):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.6), layout="constrained")
    panel = figure.subplots()
    for name in ("edgesem-reference", "edgesem-keyframes", "x264-veryfast", "x265-ultrafast", "avif-s8", "jpeg"):
        panel.plot([1, 2], label=name)
    legend_below(figure, *panel.get_legend_handles_labels())
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= 0
