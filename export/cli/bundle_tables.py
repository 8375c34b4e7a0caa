"""Tables that the commands of bundles print for people: quality, sensitivity, checks, engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgesem.cli.console import table

if TYPE_CHECKING:
    from rich.table import Table


def quality_table(manifest: Mapping[str, Any]) -> Table:
    """What a new bundle achieves, from `edgesem export`."""
    figures = ("quality", "bpp", "psnr", "ms_ssim")
    points = manifest["quality"]["points"]
    rows = [[f"{point[name]:.4g}" for name in figures] for point in points]
    return table(
        ("quality", "bpp", "PSNR dB", "MS-SSIM"),
        rows,
        f"{manifest['bundle']}: {manifest['quality']['pictures']}",
        left=0,
    )


def quantize_table(report: Mapping[str, Any]) -> Table:
    """The layers by what rounding each costs, from `edgesem quantize`."""
    left = ", ".join(report["excluded"]) or "none"
    costs = f"{report['bd_rate_psnr_percent']:.2f} % (PSNR), {report['bd_rate_ms_ssim_percent']:.2f} % (MS-SSIM)"
    rows = [(row["layer"], f"{row['snr_db']:.1f}") for row in report["sensitivity"]]
    return table(("layer", "SNR dB, alone"), rows, f"{report['graph']}: costs {costs}; left in float: {left}")


def verify_table(report: Mapping[str, Any]) -> Table:
    """The checks and what they found, from `edgesem verify`."""
    from rich.table import Column, Table
    from rich.text import Text

    columns = (Column("check"), Column(""), Column("findings", overflow="fold"))  # paths whole, to be copied
    shown = Table(*columns, title=Text(str(report["bundle"])), title_justify="left", box=None)
    words = {True: Text("ok", "green"), False: Text("failed", "red"), None: Text("not made", "yellow")}
    for name, row in report["checks"].items():
        findings = {key: value for key, value in row.items() if key not in ("ok", "seconds")}
        if "graphs" in findings:
            findings["graphs"] = f"{len(findings['graphs'])}, opset and IR version as they must be"
        lines = Text("\n".join(f"{key}: {_plainly(value)}" for key, value in findings.items()))
        shown.add_row(name, words[row["ok"]], lines)  # findings are long lines, which must be wrapped
    return shown


def _plainly(finding: Any) -> str:
    """A finding without the signs of Python: rows of names and figures."""
    if isinstance(finding, Mapping):
        return ", ".join(f"{key} {_plainly(value)}" for key, value in finding.items())
    if isinstance(finding, (list, tuple)):
        return ", ".join(map(_plainly, finding))
    return f"{finding:.3g}" if isinstance(finding, float) else str(finding)


def engine_table(report: Mapping[str, Any]) -> Table:
    """The engines and where they lie, from `edgesem engine`."""
    rows = [(row["graph"], row["engine"], f"{row['size_bytes'] / 1e6:.1f}", row["built"]) for row in report["engines"]]
    return table(("graph", "engine", "MB", "built now"), rows, left=2)
