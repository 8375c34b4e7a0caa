"""The command `edgesem bench change`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, progress, table
from runtime.cli.options import BundleOption, JsonOption

if TYPE_CHECKING:
    from rich.console import RenderableType


def bench_change(
    data: Annotated[
        Path, typer.Option(help="A video of a fixed camera, or a folder of such videos.", show_default=False)
    ],
    detector: Annotated[Path, typer.Option(help="ONNX file of a detector of FastestDet's form.", show_default=False)],
    names: Annotated[Path, typer.Option(help="File with the names of its classes, one a line.", show_default=False)],
    bundle: BundleOption = None,
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames a second that the sender looks at.")] = 5.0,
    quality: Annotated[float, typer.Option(min=0, max=1, help="Quality of every packet, 0 to 1.")] = 0.5,
    score: Annotated[float, typer.Option(min=0.05, max=1, help="Least score of a detection that counts.")] = 0.5,
    json_: JsonOption = False,
) -> None:
    """Measure how many bytes `send --send-on change` saves, and how much of what happens it still shows.

    A detector looks at each frame: an object that it sees at least three times is an event. A way of sending recalls
    an event if a frame that it sent still shows it after decoding. Compared are all frames, the frames sent on change,
    and as many frames at even distances, all at the same quality.

    Example: edgesem bench change --data video --detector FastestDet.onnx --names coco.names
    """
    from edgesem.codec.codec import load
    from edgesem.quality.judges import Detector
    from edgesem.video import find_videos
    from runtime.bench.change import code_clip, compare, read_clip, total

    codec, judge = load(bundle), Detector(detector, names)
    clips: dict[str, dict[str, Any]] = {}
    for path in find_videos(data):
        with progress(path.name) as bar:
            clips[path.name] = compare(code_clip(read_clip(path, fps), codec, judge, quality, score, bar.update))
    emit({"fps": fps, "quality": quality, "clips": clips, "total": total(clips.values())}, json_, _render)


def _render(result: Mapping[str, Any]) -> RenderableType:
    rows = []
    for name, row in {**result["clips"], "total": result["total"]}.items():
        change = row["change"]
        shares = (change["saved"], change["recall"], row["all"]["recall"], change["blind_recall"])
        frames = f"{change['frames']} of {row['frames']}"
        rows.append((name, row["events"], frames, *(f"{100 * share:.0f} %" for share in shares)))
    columns = ("clip", "events", "frames", "bytes saved", "recall", "recall of all", "at an even pace")
    return table(columns, rows, f"Sending on change, against all frames at {result['fps']:g} a second")
