"""The command `edgesem bench task`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import InputError, UsageError

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
    sizes: Annotated[
        str, typer.Option(help="Sizes at which the codecs other than edgesem code.")
    ] = "full,half,quarter",
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of edgesem's bundle.", show_default="the one that ships")
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "int8"],
        typer.Option(help="edgesem's encoder; auto: int8 where the CPU is made for it"),
    ] = "auto",
    resamples: Annotated[int, typer.Option(min=0, help="Resamples of the pictures for the intervals.")] = 1000,
    readme: Annotated[
        Path | None,
        typer.Option(help="Also put the table into this file, between <!-- bench task --> and <!-- end -->."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Measure whether networks see the same in decoded pictures as in the originals, at equal bytes.

    Each codec gets each picture into the budget by its own search for the best quality, in real bytes.

    Example: edgesem bench task --data photos --out task --detector FastestDet.onnx --names coco.names --bytes 2000
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import json

    from rich.markdown import Markdown
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgesem.files import find_pictures, write_whole
    from edgesem.quality.judges import Classifier, Detector
    from export.bench.rd import readme as rd_readme
    from export.bench.rd.subjects import choose
    from export.bench.task import measure as task
    from export.bench.task import report as task_report

    budgets = _budgets(bytes_)
    pictures = find_pictures(data)
    judge = task.Judge(Detector(detector, names), Classifier(classifier) if classifier else None)
    section = rd_readme.Section(readme, "bench task") if readme else None
    chosen = choose(codecs, _CODECS, sizes, bundle, precision)
    for name, reason in chosen.left_out.items():
        log.print(f"[yellow]without {name}:[/] {reason}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}") from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log) as progress:
        bar = progress.add_task("coding and judging", total=len(pictures) * len(chosen.subjects) * len(budgets))
        sightings = task.look(
            pictures,
            chosen.subjects,
            budgets,
            task.Sightings(out / "task_cache.jsonl"),
            judge,
            done=lambda count: progress.advance(bar, count),
        )
    report: dict[str, Any] = {
        "data": data.resolve().name,
        "pictures": [path.name for path in pictures],
        "versions": {subject.name: subject.version for subject in chosen.subjects},
        "judges": judge.version,
        "left_out": chosen.left_out,
        **task_report.summarize(sightings, resamples),
    }
    text = task_report.as_markdown(report)
    write_whole(out / "task.md", text.encode())
    write_whole(out / "task.json", json.dumps(report, indent=1).encode())
    task_report.plot(report, out / "task.png")
    if section:
        section.fill(text)
    log.print(f"{out / 'task.md'}, {out / 'task.json'}, {out / 'task.png'}")
    emit(report, json_, lambda _: Markdown(text))


def _budgets(text: str) -> list[int]:
    try:
        budgets = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--bytes takes numbers with commas such as 1000,2000, not {text!r}") from error
    if budgets[0] < 1:
        raise UsageError(f"--bytes takes numbers above 0, not {budgets[0]}")
    return budgets
