"""Command `edgesem bench video`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, progress, table
from edgesem.errors import UsageError
from edgesem.files import write_whole
from export.cli.options import JsonOption, result_folder

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgesem.quality.metrics import Frame

_QUICK = "edgesem-intra,edgesem-reference,x264-veryfast,x265-ultrafast,avif-s8"


def bench_video(
    data: Annotated[Path, typer.Option(help="Clip, or folder of clips.")],
    out: Annotated[Path, typer.Option(help="Folder for video.json and video.png.")],
    fps: Annotated[str, typer.Option(help="Frame rates, with commas.")] = "1,5,10",
    codecs: Annotated[str, typer.Option(help="Codecs, with commas; also x264-ultrafast, x264-medium ...")] = _QUICK,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure.", show_default="the default one")] = None,
    start: Annotated[float, typer.Option(min=0, max=1, help="Where in each clip to begin, in 0..1 of its time.")] = 0.0,
    frames: Annotated[int, typer.Option(min=2, help="Frames of each clip, at most.")] = 30,
    key_interval: Annotated[float, typer.Option(min=0.1, help="Seconds from one keyframe to the next.")] = 60.0,
    steps: Annotated[int, typer.Option(min=0, max=4, help="Steps of the flow decoder that draw ours.")] = 0,
    probe: Annotated[
        str,
        typer.Option(help="Look closely at inter frames, flicker at these steps, as 0,1,4.", show_default="no"),
    ] = "",
    middle: Annotated[int, typer.Option(min=0, help="Pixels a side of the middle that is taken; 0: all.")] = 0,
    json_: JsonOption = False,
) -> None:
    """Bytes a frame against quality on clips: packets with and without references, x264, x265, and AVIF a frame.

    The video codecs run without delay, on one thread, with the same frame rate and key interval. --probe adds, for each
    clip and rate, the sender's time for an inter frame over that for a keyframe, how quality climbs with each,
    what the same frame costs again, what a mask of unchanged positions could save, and flicker; --codecs none leaves
    all else out.

    Example: edgesem bench video --data clip.mp4 --fps 1,5 --out results
    """
    import edgesem
    from edgesem.video import find_videos
    from export.bench.video.measure import CODECS, points, settings_of, share_at_equal_quality
    from export.bench.video.plot import plot
    from export.bench.video.probe import probe as look_closely
    from export.data.clips import read_clip

    names = [] if codecs == "none" else [name.strip() for name in codecs.split(",")]
    flow_steps = _steps(probe)
    if unknown := [name for name in names if name not in CODECS]:
        raise UsageError(f"--codecs takes {', '.join(CODECS)}, not {unknown[0]!r}")
    rates = _rates(fps)
    codec = edgesem.load(bundle)
    if ("edgesem-reference" in names or flow_steps) and not codec.has_reference:
        raise UsageError("this bundle has no references: export one with --reference, or leave edgesem-reference out")
    paths = find_videos(data)
    clips = {
        (path.name, rate): read_clip(path, rate_hz=rate, start=start, most=frames) for path in paths for rate in rates
    }
    if middle:
        clips = {name: ([_middle(frame, middle) for frame in found], real) for name, (found, real) in clips.items()}
    report: dict[str, Any] = {
        "steps": steps,
        "clips": [path.name for path in paths],
        "fps": rates,
        "key_interval_s": key_interval,
    }
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in names}
    by_clip: dict[str, dict[str, dict[str, Any]]] = {}
    with progress("coding clips", len(clips) * sum(settings_of(name) for name in names)) as bar:
        for name in names:
            for rate in rates:
                rows = []
                for path in paths:
                    pictures, real = clips[path.name, rate]
                    rows.append(points(name, codec, pictures, real, key_interval, bar.advance, steps))
                    by_clip.setdefault(path.name, {}).setdefault(name, {})[f"{rate:g}"] = rows[-1]
                found[name][f"{rate:g}"] = _mean(rows)
    if flow_steps:
        report["probe"] = {}
        with progress("looking closely", len(clips)) as bar:
            for (name, rate), (pictures, _) in clips.items():
                report["probe"].setdefault(name, {})[f"{rate:g}"] = look_closely(codec, pictures, flow_steps)
                bar.advance()
    report |= {"codecs": found, "by_clip": by_clip, "frames": {n: len(c[0]) for (n, _), c in clips.items()}}
    report["share_of_bytes"] = {
        f"{mine} / {other}": {
            rate: share_at_equal_quality(found[mine][rate], found[other][rate]) for rate in found[mine]
        }
        for mine, other in (("edgesem-reference", other) for other in names if other != "edgesem-reference")
        if mine in found
    }
    write_whole(result_folder(out) / "video.json", (json.dumps(report, indent=1) + "\n").encode())
    if names:
        plot(report, out / "video.png")
    emit(report, json_, _table)


def _rates(fps: str) -> list[float]:
    try:
        rates = [float(part) for part in fps.split(",")]
    except ValueError:
        rates = []
    if not rates or min(rates) <= 0:
        raise UsageError(f"--fps takes frame rates with commas, such as 1,5,10, not {fps!r}")
    return rates


def _steps(text: str) -> list[int]:
    """The numbers in a list such as 0,1,4; none in an empty one."""
    try:
        steps = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        steps = [-1]
    if any(not 0 <= step <= 4 for step in steps):
        raise UsageError(f"--probe takes steps of the flow decoder with commas, such as 0,1,4, not {text!r}")
    return steps


def _middle(frame: Frame, side: int) -> Frame:
    """The middle of a frame, `side` pixels a side or less."""
    height, width = frame.shape[:2]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return frame[top : top + side, left : left + side].copy()


def _mean(rows: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Means over clips, setting by setting."""
    return [{key: sum(row[key] for row in at) / len(at) for key in at[0]} for at in zip(*rows, strict=True)]


def _table(report: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group

    columns = ("codec", "fps", "bytes a frame", "MS-SSIM", "PSNR", "flicker", "encode s", "CPU s")
    figures = ("ms_ssim", "psnr", "flicker", "encode_s", "encode_cpu_s")
    rows = [
        (name, rate, f"{row['bytes_per_frame']:.0f}", *(f"{row[figure]:.4g}" for figure in figures))
        for name, rates in report["codecs"].items()
        for rate, found in rates.items()
        for row in found
    ]
    shares = [
        (pair, rate, "-" if share is None else f"{share:.0%}")
        for pair, by_rate in report["share_of_bytes"].items()
        for rate, share in by_rate.items()
    ]
    parts = [table(columns, rows)]
    if shares:
        parts.append(table(("codecs", "fps", "share of bytes at equal MS-SSIM"), shares))
    if "probe" in report:
        parts.append(_probed(report["probe"]))
    return Group(*parts)


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
                values = ", ".join(f"{kind} {value:.2f}" for kind, value in row.items())
                rows.append((f"flicker at {steps} steps", values))
            for what, figure in rows:
                shown.add_row(clip, rate, what, figure)
    return shown
