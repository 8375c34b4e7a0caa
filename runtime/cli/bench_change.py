"""The command `edgesem bench change`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


def bench_change(
    data: Annotated[Path, typer.Option(help="A clip of a fixed camera, or a folder of clips.", show_default=False)],
    detector: Annotated[Path, typer.Option(help="A detector of FastestDet's form as ONNX file.", show_default=False)],
    names: Annotated[Path, typer.Option(help="Names of its classes, one a line.", show_default=False)],
    bundle: Annotated[Path | None, typer.Option(help="Folder of the bundle.", show_default="ships")] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames a second that the sender looks at.")] = 5.0,
    quality: Annotated[float, typer.Option(min=0, max=1, help="Of every packet.")] = 0.5,
    score: Annotated[float, typer.Option(min=0.05, max=1, help="From which a detection counts.")] = 0.5,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Measure what --send-on change saves, and whether the receiver still sees all that happens.

    A detector looks at each frame of a clip: what it sees at least three times is an event. A way of sending has
    recalled an event if a frame that it sent still shows it after decoding. Sending all frames at the same quality is
    compared with sending on change, and with as many frames at an even pace.

    Example: edgesem bench change --data video --detector FastestDet.onnx --names coco.names
    """
    from rich.progress import Progress

    from edgesem.codec.codec import load
    from edgesem.quality.judges import Detector
    from runtime.bench.change import VIDEOS, compare, read_clip, shoot, total

    codec, judge = load(bundle), Detector(detector, names)
    clips = sorted(path for path in data.iterdir() if path.suffix in VIDEOS) if data.is_dir() else [data]
    if not clips:
        raise InputError(f"{data} holds no clip ({', '.join(VIDEOS)}): name a file or another folder")
    rows: dict[str, dict[str, Any]] = {}
    with Progress(console=log, transient=True) as progress:
        for clip in clips:
            task = progress.add_task(clip.name, total=1.0)
            frames = read_clip(clip, fps)
            show = partial(progress.update, task)
            shots = shoot(frames, codec, judge, quality, score, lambda share, show=show: show(completed=share))  # type: ignore[misc]
            rows[clip.name] = compare(shots)
    result = {"fps": fps, "quality": quality, "clips": rows, "total": total(rows.values())}
    emit(result, json_, _render)


def _render(result: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title=f"Sending on change, against all frames at {result['fps']:g} a second", title_justify="left")
    for name in ("clip", "events", "frames", "bytes saved", "recall", "recall of all", "at an even pace"):
        table.add_column(name, justify="left" if name == "clip" else "right")
    for name, row in {**result["clips"], "total": result["total"]}.items():
        change = row["change"]
        frames = f"{change['frames']} of {row['frames']}"
        shares = (change["saved"], change["recall"], row["all"]["recall"], change["blind_recall"])
        table.add_row(name, str(row["events"]), frames, *(f"{100 * share:.0f} %" for share in shares))
    return table
