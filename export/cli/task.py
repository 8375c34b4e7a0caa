"""Command `edgesem bench task`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from edgesem.cli.console import emit, log, progress
from edgesem.errors import UsageError
from edgesem.packet.packet import MAX_PACKET_BYTES
from export.cli.options import BundleOption, JsonOption, PrecisionOption, SizesOption, one_thread, result_folder

_CODECS = "edgesem,edgesem+1step,avif-s6,webp-m4,jpeg"


def bench_task(
    data: Annotated[Path, typer.Option(help="Folder of pictures with objects in them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for task.md, task.json, task.png, the cache.", show_default=False)],
    detector: Annotated[Path, typer.Option(help="Detector: an ONNX file of FastestDet's form.", show_default=False)],
    names: Annotated[Path, typer.Option(help="Names of the detector's classes, one a line.", show_default=False)],
    classifier: Annotated[
        Path | None, typer.Option(help="Also ask a classifier: a TFLite file (needs ai-edge-litert).")
    ] = None,
    bytes_: Annotated[
        str, typer.Option("--bytes", help="Budgets for a frame of 640x480; in proportion for other sizes.")
    ] = "1000,2000,4000",
    codecs: Annotated[str | None, typer.Option(help="Names with commas, as in bench rd.", show_default=_CODECS)] = None,
    sizes: SizesOption = "full,half,quarter",
    bundle: BundleOption = None,
    precision: PrecisionOption = "auto",
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the pictures for the intervals.")] = 1000,
    json_: JsonOption = False,
) -> None:
    """Measure whether networks see the same in decoded pictures as in the originals, at equal bytes.

    Each codec gets each picture into the budget by its own search for the best quality, in real bytes.

    Example: edgesem bench task --data photos --out task --detector FastestDet.onnx --names coco.names --bytes 2000
    """
    one_thread()
    import json

    from rich.markdown import Markdown

    from edgesem.files import find_pictures, write_whole
    from edgesem.quality.judges import Classifier, Detector
    from export.bench.rd.codecs import choose
    from export.bench.task import measure as task
    from export.bench.task import report as task_report

    budgets = _budgets(bytes_)
    pictures = find_pictures(data)
    judge = task.TaskJudge(Detector(detector, names), Classifier(classifier) if classifier else None)
    chosen = choose(codecs, _CODECS, sizes, bundle, precision)
    for name, reason in chosen.left_out.items():
        log.print(Text(f"without {name}: {reason}", "yellow"), soft_wrap=True)
    kept = task.open_observations(result_folder(out) / "task_cache.jsonl")
    with progress("coding and judging", len(pictures) * len(chosen.codecs) * len(budgets)) as bar:
        observations = task.observe(pictures, chosen.codecs, budgets, kept, judge, bar.advance)
    report: dict[str, Any] = {
        "data": data.resolve().name,
        "pictures": [path.name for path in pictures],
        "versions": {codec.name: codec.version for codec in chosen.codecs},
        "judges": judge.version,
        "left_out": chosen.left_out,
        **task_report.summarize(observations, resamples),
    }
    text = task_report.as_markdown(report)
    write_whole(out / "task.md", text.encode())
    write_whole(out / "task.json", json.dumps(report, indent=1).encode())
    task_report.plot(report, out / "task.png")
    log.print(Text(f"{out / 'task.md'}, {out / 'task.json'}, {out / 'task.png'}"), soft_wrap=True)
    emit(report, json_, lambda _: Markdown(text))


def _budgets(text: str) -> list[int]:
    try:
        budgets = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--bytes takes numbers with commas such as 1000,2000, not {text!r}") from error
    if not 1 <= budgets[0] <= budgets[-1] <= MAX_PACKET_BYTES:
        raise UsageError(f"--bytes takes numbers of 1 to {MAX_PACKET_BYTES}, the most of a packet, not {text[:80]!r}")
    return budgets
