"""Chart of a profile: latency of the stages, power over time, joules of a frame against its quality."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from edgesem.errors import MissingDependency, require

_WIDE, _HIGH, _DPI = 15.0, 4.6, 110
_COSTS = (
    ("net_with_radio_j_per_frame", "J a frame, net, with the radio"),
    ("gross_with_radio_j_per_frame", "J a frame, gross, with the radio"),
    ("net_j_per_frame", "J a frame, net"),
    ("gross_j_per_frame", "J a frame, gross"),
    ("encode_p50_s", "seconds of encoding a frame (no joules measured)"),
)
_INK, _BAR, _TAIL, _LINE = "#1f2933", "#2f7fc1", "#9cc4e4", "#c2410c"


def need() -> None:
    """Raise MissingDependency if there is no matplotlib: before a minute of measuring rather than after it."""
    try:
        require("matplotlib", "bench")
    except MissingDependency as error:
        raise MissingDependency(
            "--out draws with matplotlib, which the plain install lacks: pip install matplotlib, or leave --out away "
            "and take the table or --json"
        ) from error


def draw(result: Mapping[str, Any]) -> bytes:
    """The PNG of a profile's figures. Raises MissingDependency without matplotlib."""
    need()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, _HIGH), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    latency, power, joules = figure.subplots(1, 3)
    _latency(latency, result)
    _power(power, result)
    _joules(joules, result)
    settings, engine = result["settings"], result["engine"]
    figure.suptitle(
        f"edgesem profile: {result['board']['model']}, {settings['size']}, {settings['threads']} thread(s), "
        f"{engine['runner']} {engine['version']} {engine['precision']}",
        color=_INK,
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _latency(axes: Any, result: Mapping[str, Any]) -> None:
    names = list(result["stages"])
    places = range(len(names))
    values = [result["stages"][name] for name in names]
    axes.barh(places, [1e3 * value["p95_s"] for value in values], color=_TAIL, label="p95")
    axes.barh(places, [1e3 * value["p50_s"] for value in values], color=_BAR, height=0.5, label="p50")
    axes.plot([1e3 * value["p99_s"] for value in values], places, "|", color=_LINE, markersize=14, label="p99")
    axes.set_yticks(list(places), names)
    axes.set_ylim(len(names) + 0.2, -0.6)  # from above, with room for the legend below the last bar
    axes.set_xlabel("ms a frame")
    axes.set_title("latency of the stages")
    axes.legend(loc="lower center", ncols=3, frameon=False)


def _power(axes: Any, result: Mapping[str, Any]) -> None:
    axes.set_title("power over time")
    if not result["power"]:
        _say(axes, f"not measured:\n{result['energy_reason']}")
        return
    times, powers = zip(*result["power"], strict=True)
    axes.plot(times, powers, color=_BAR, linewidth=0.8)
    energy = result["energy"]
    idles = [energy[key] for key in ("idle_before_w", "idle_after_w") if energy and energy[key] is not None]
    for idle_w in idles:
        axes.axhline(idle_w, color=_LINE, linestyle="--", linewidth=0.9)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the sender began")
    axes.set_ylabel(f"W ({energy['scope']})" if energy else "W")


def cost_of(codecs: Mapping[str, Any]) -> tuple[str, str]:
    """Key and name of what a frame costs: the most complete figure that all codecs have."""
    every = [point for points in codecs.values() for point in points]
    for key, label in _COSTS:
        # A board that drew no more than when idle leaves nothing net to draw.
        if all(point[key] is not None and point[key] > 1e-6 for point in every):
            return key, label
    return _COSTS[-1]


def _joules(axes: Any, result: Mapping[str, Any]) -> None:
    codecs = result["codecs"] or {}
    key, label = cost_of(codecs)
    axes.set_title("cost against quality")
    if not codecs:
        _say(axes, "--compare measures edgesem\nbeside JPEG, WebP and AVIF")
        return
    for name, points in codecs.items():
        shown = [(point["ms_ssim"], point[key]) for point in points if point[key] is not None]
        if shown:
            axes.plot(*zip(*sorted(shown), strict=True), "o-", label=name, markersize=4)
    axes.set_yscale("log")
    axes.set_xlabel("MS-SSIM")
    axes.set_ylabel(label)
    axes.legend(frameon=False)


def _say(axes: Any, text: str) -> None:
    import textwrap

    lines = "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, 42))
    axes.text(0.5, 0.5, lines, ha="center", va="center", transform=axes.transAxes, color=_INK)
    axes.set_axis_off()
