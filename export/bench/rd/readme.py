"""Short table of a report, and the section of a Markdown file that it is written into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesem.errors import InputError
from edgesem.files import write_whole
from export.bench.rd.bd import SMALL, is_tested
from export.bench.rd.report import independence
from export.bench.rd.scores import SCORES, titles

_END = "<!-- end -->"


def fill_section(path: Path, name: str, text: str) -> None:
    """Put `text` into a file in place of what stands between `<!-- name -->` and the next `<!-- end -->`."""
    before, after = around_section(path, name)
    write_whole(path, f"{before}\n{text.strip()}\n{after}".encode())


def around_section(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after that, with the two lines. InputError if the file cannot be read or lacks them."""
    start = f"<!-- {name} -->"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    before, found, rest = text.partition(start)
    _, end, after = rest.partition(_END)
    if not found or not end:
        raise InputError(f"{path} has no part from {start} to {_END}: put these two lines into it")
    return before + start, end + after


def table(report: Mapping[str, Any]) -> str:
    """Quality at each rate, and the bytes of edgesem at equal quality against each codec's best size."""
    metrics = report["metrics"]
    named = titles(metrics, report["trained_on"])
    names = _shown(report["at_bpp"])
    rates = [bpp for bpp in next(iter(report["at_bpp"].values())) if any(_has(report, name, bpp) for name in names)]
    lines = [
        f"{len(report['pictures'])} pictures of {report['data']}, file bytes: {' / '.join(named)} at so many bits per "
        f"pixel. {independence(report)}",
        "",
        "| | " + " | ".join(rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for name in names:
        cells = []
        for bpp in rates:
            values = report["at_bpp"][name][bpp]
            numbers = ["–" if values[m] is None else f"{values[m]:.{SCORES[m].short_digits}f}" for m in metrics]
            cells.append(" / ".join(numbers) if _has(report, name, bpp) else "–")
        lines.append(f"| {_bold(name)} | " + " | ".join(cells) + " |")
    low, high = report["bd_rate_bpp"]
    lines += [
        "",
        f"Bytes at equal quality, {low:g} to {high:g} bpp (BD-rate; in brackets where 95 % of resamples lie):",
        "",
        "| | against | " + " | ".join(named) + " |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for tested, anchors in report["bd_rate"].items():
        for anchor in (name for name in _shown(anchors) if not is_tested(name)):
            cells = [_percent(anchors[anchor].get(metric)) for metric in metrics]
            lines.append(f"| {_bold(tested)} | {anchor} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(names: Mapping[str, Any]) -> list[str]:
    """edgesem, and each other codec at its best size, or whole if it was measured so only."""
    return [name for name in names if not name.endswith(SMALL) and f"{name}-best" not in names]


def _has(report: Mapping[str, Any], name: str, bpp: str) -> bool:
    return report["at_bpp"][name][bpp]["ms_ssim"] is not None


def _bold(name: str) -> str:
    return f"**{name}**" if is_tested(name) else name


def _percent(value: Mapping[str, Any] | None) -> str:
    if not value:
        return "–"
    interval = value.get("interval")
    return f"{value['percent']:+.0f} %" + (f" ({interval[0]:+.0f} to {interval[1]:+.0f})" if interval else "")
