"""What the commands of bundles print for people: quality, sensitivity, checks, engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def quality_table(manifest: Mapping[str, Any]) -> Table:
    """What a new bundle achieves, from `edgesem export`."""
    from rich.table import Table

    title = f"{manifest['bundle']}: {manifest['quality']['pictures']}"
    table = Table("quality", "bpp", "PSNR dB", "MS-SSIM", title=title)
    for point in manifest["quality"]["points"]:
        table.add_row(*(f"{point[name]:.4g}" for name in ("quality", "bpp", "psnr", "ms_ssim")))
    return table


def quantize_table(report: Mapping[str, Any]) -> Table:
    """The layers by what rounding each costs, from `edgesem quantize`."""
    from rich.table import Table

    left = ", ".join(report["excluded"]) or "none"
    costs = f"{report['bd_rate_psnr_percent']:.2f} % (PSNR), {report['bd_rate_ms_ssim_percent']:.2f} % (MS-SSIM)"
    table = Table("layer", "SNR dB, alone", title=f"{report['graph']}: costs {costs}; left in float: {left}")
    for row in report["sensitivity"]:
        table.add_row(row["layer"], f"{row['snr_db']:.1f}")
    return table


def verify_table(report: Mapping[str, Any]) -> Table:
    """The checks and what they found, from `edgesem verify`."""
    from rich.table import Table

    table = Table("check", "", "findings", title=str(report["bundle"]))
    words = {True: "[green]ok", False: "[red]failed", None: "[yellow]not made"}
    for name, row in report["checks"].items():
        findings = {key: value for key, value in row.items() if key not in ("ok", "seconds")}
        if "graphs" in findings:
            findings["graphs"] = f"{len(findings['graphs'])}, opset and IR version as they must be"
        table.add_row(name, words[row["ok"]], "\n".join(f"{key}: {_plainly(value)}" for key, value in findings.items()))
    return table


def _plainly(finding: Any) -> str:
    """A finding without the signs of Python: rows of names and figures."""
    if isinstance(finding, Mapping):
        return ", ".join(f"{key} {_plainly(value)}" for key, value in finding.items())
    if isinstance(finding, (list, tuple)):
        return ", ".join(map(_plainly, finding))
    return f"{finding:.3g}" if isinstance(finding, float) else str(finding)


def engine_table(report: Mapping[str, Any]) -> Table:
    """The engines and where they lie, from `edgesem engine`."""
    from rich.table import Table

    table = Table("graph", "engine", "MB", "built now")
    for row in report["engines"]:
        table.add_row(row["graph"], str(row["engine"]), f"{row['size_bytes'] / 1e6:.1f}", str(row["built"]))
    return table
