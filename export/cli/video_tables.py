"""Tables of `edgesem bench video`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from edgesem.cli.console import table
from export.bench.video.measure import MEASURES
from export.bench.video.where import CAUSES


def tables(report: Mapping[str, Any]) -> RenderableType:
    """What the command prints of its report."""
    judges = tuple(report["judges"])
    flicker = ("flicker", "× clip's", "by frame")
    columns = ("codec", "fps", "bytes a frame", "MS-SSIM", "PSNR", "GMSD", *judges, *flicker, "encode s", "CPU s")
    changes = ("flicker", "flicker_times", "flicker_change_times")
    shown = (*MEASURES, *judges, *changes, "encode_s", "encode_cpu_s")
    rows = [
        (name, rate, f"{row['bytes_per_frame']:.0f}", *(_shown(row[figure]) for figure in shown))
        for name, rates in report["codecs"].items()
        for rate, found in rates.items()
        for row in found
    ]
    measured = ("share_of_bytes", "share_of_bytes_by_gmsd", "share_of_encode_time")
    shares = [
        (pair, rate, *(_percent(report[key][pair][rate]) for key in measured))
        for pair, by_rate in report["share_of_bytes"].items()
        for rate in by_rate
    ]
    parts: list[RenderableType] = [table(columns, rows)] if rows else []
    if report["missing"]:
        parts.append(table(("codec", "not measured, because"), tuple(report["missing"].items()), left=2))
    if shares:
        parts.append(table(("codecs", "fps", "bytes at equal MS-SSIM", "equal GMSD", "CPU time, inter frame"), shares))
    if report["still"]:
        parts.append(_still(report["still"]))
    if "probe" in report:
        parts.append(_probed(report["probe"]))
    if "where" in report:
        parts += _where(report["where"])
    return Group(*parts)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _probed(probe: Mapping[str, Any]) -> Table:
    shown = table(("clip", "fps", "inter frames", ""), (), left=3)
    for clip, rates in probe.items():
        for rate, found in rates.items():
            sender, unchanged = found["sender"], found["unchanged"]
            rows = [("sender's time over a keyframe's", f"{sender['time_ratio_p50']:.2f}")]
            for kind, row in sender["ms_ssim"].items():
                what = f"MS-SSIM at {sender['budget_bytes']} bytes a frame, {kind}, first and last"
                rows.append((what, f"{row[0]:.3f}, {row[-1]:.3f}"))
            rows.append(("the same frame again, bytes over a keyframe's", f"{found['again_share_of_bytes']:.2f}"))
            spent, still = unchanged["still_share_of_bits"], unchanged["still_share_of_positions"]
            rows.append(("bits spent on positions that stand still", f"{spent:.0%} on {still:.0%}"))
            for steps, row in found["flicker"].items():
                values = ", ".join(f"{kind} {_shown(value)}" for kind, value in row.items())
                rows.append((f"flicker at {steps} steps", values))
                for name, what in (
                    ("flicker_times", "times the clip's"),
                    ("flicker_change_times", "by frame, times it"),
                ):
                    values = ", ".join(f"{kind} {_shown(value)}" for kind, value in found[name][steps].items())
                    rows.append((f"{what} at {steps} steps", values))
            for what, figure in rows:
                shown.add_row(clip, rate, what, figure)
    return shown


def _still(still: Mapping[str, Any]) -> Table:
    columns = ("clip", "codec", "frame", "bytes", "of its keyframe", "MS-SSIM", "GMSD", "CPU s")
    shown = table(columns, (), left=3)
    for clip, codecs in still.items():
        for name, row in codecs.items():
            for kind in ("identical", "noisy"):
                size_bytes, share = f"{row[f'{kind}_bytes']:.0f}", f"{row[f'{kind}_share']:.1%}"
                figures = (_shown(row[f"{kind}_{figure}"]) for figure in ("ms_ssim", "gmsd", "encode_cpu_s"))
                shown.add_row(clip, name, kind, size_bytes, share, *figures)
    return shown


def _where(where: Mapping[str, Any]) -> list[RenderableType]:
    """Bits of inter frames by area and cause; by level of the reference; packets that say nothing new."""
    areas = [(area, cause) for area in ("unchanged", "changed") for cause in CAUSES]
    titles = ("clip", "scene", "of a keyframe", "if copied", "by group", *(f"{one[:2]}, {why}" for one, why in areas))
    scenes, levels = (
        table(titles, (), left=2),
        table(("clip", "scene", "reference's level", "of a keyframe"), (), left=2),
    )
    nothing = table(
        ("clip", "scene", "reference's level", "level", "layers", "bytes", "of a keyframe", "MS-SSIM", "reference's"),
        (),
        left=2,
    )
    held = table(("clip", "scene", "reference's level", "limit", "held", "of a keyframe", "MS-SSIM"), (), left=2)
    for clip, found in where.items():
        for name, row in found["scenes"].items():
            groups = " ".join(f"{share:.0%}" for share in row["bits_by_group"].values())
            shares = [f"{row[key]:.1%}" for key in ("share_of_key", "share_of_key_if_copied")]
            scenes.add_row(clip, name, *shares, groups, *[f"{row[area][cause]:.0%}" for area, cause in areas])
        for name, by_level in found["by_level_of_reference"].items():
            for level, share in by_level.items():
                levels.add_row(*(clip, name, level, f"{share:.1%}"))
        for row in found["nothing_new"]:
            figures = [f"{row[key]}" for key in ("reference_level", "level", "layers", "bytes")]
            quality = [f"{row[key]:.4f}" for key in ("ms_ssim", "reference_ms_ssim")]
            nothing.add_row(clip, row["scene"], *figures, *[f"{row['share_of_key']:.1%}", *quality])
        for row in found["held"]:
            figures = [row["scene"], f"{row['reference_level']}", f"{row['limit_steps']:g}"]
            shares = [f"{row[key]:.1%}" for key in ("held_share_of_positions", "share_of_key")]
            held.add_row(clip, *figures, *shares, *[f"{row['ms_ssim']:.4f}"])
    return [scenes, levels, nothing, held]
