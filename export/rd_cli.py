"""The command `edgesem bench rd`."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.console import emit, log
from edgesem.errors import InputError, MissingDependency, UsageError

if TYPE_CHECKING:
    from export.baselines import Subject

_CODECS = "edgesem,avif-s6,webp-m4,jpeg,jxl"


def bench_rd(
    data: Annotated[Path, typer.Option(help="Folder of pictures.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for rd.md, rd.json, rd.png and the cache.", show_default=False)],
    codecs: Annotated[
        str | None,
        typer.Option(help="Names with commas; also other avif-s, webp-m, jxl-e.", show_default=_CODECS),
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Sizes at which the codecs other than edgesem code.")
    ] = "full,half,quarter",
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of edgesem's bundle.", show_default="the one that ships")
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(help="Measure LPIPS too, with AlexNet's weights from this npz (needs torch).")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure quality; coding is timed alone.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure all again, use nothing from the cache.")] = False,
    retime: Annotated[
        bool, typer.Option("--retime", help="Code all again, so that all times are of one run; keep known quality.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Code real files with edgesem and the codecs everybody has, and measure rate, quality and time.

    Example: edgesem bench rd --data photos --out rd --jobs 2
    """
    # Before numpy or torch is loaded, here and in the processes started from here
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    import json

    from rich.markdown import Markdown
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edgesem.files import find_pictures, write_whole
    from export import rd, rd_plot, rd_report
    from export.rd_points import Store

    pictures = find_pictures(data)
    subjects, left_out = _subjects(codecs, sizes, bundle)
    for name, reason in left_out.items():
        log.print(f"[yellow]without {name}:[/] {reason}")
    judge = rd.Judge.create(lpips)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}") from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log) as progress:
        total = len(pictures) * sum(len(subject.settings) for subject in subjects)
        task = progress.add_task("coding and measuring", total=total)
        points = rd.measure(
            pictures,
            subjects,
            Store(out / "rd_cache.jsonl"),
            judge,
            jobs=jobs,
            fresh=fresh,
            retime=retime,
            done=lambda count: progress.advance(task, count),
        )
    report: dict[str, Any] = {
        "data": data.resolve().name,
        "pictures": [path.name for path in pictures],
        "versions": {subject.name: subject.version for subject in subjects},
        "measures": judge.version,
        "left_out": left_out,
        "machine": {"processor": _processor(), "system": platform.platform(), "python": platform.python_version()},
        **rd_report.summarize(points),
    }
    text = rd_report.as_markdown(report)
    write_whole(out / "rd.md", f"{text}\n{rd_report.settings_as_markdown(report)}".encode())
    full = report | {"points": [point.flat() for point in points]}
    write_whole(out / "rd.json", json.dumps(full, indent=1).encode())
    rd_plot.plot(report, out / "rd.png")
    log.print(f"{out / 'rd.md'}, {out / 'rd.json'} (with each picture's points), {out / 'rd.png'}")
    emit(report, json_, lambda _: Markdown(text))


def _subjects(codecs: str | None, sizes: str, bundle: Path | None) -> tuple[list[Subject], dict[str, str]]:
    """The codecs to measure, and those of the default list that this machine lacks, with the reason."""
    from export import baselines, rd

    wanted_sizes = [size.strip() for size in sizes.split(",")]
    if unknown := [size for size in wanted_sizes if size not in baselines.SIZES]:
        raise UsageError(f"--sizes takes {', '.join(baselines.SIZES)}, not {unknown[0]!r}")
    subjects: dict[str, Subject] = {}
    left_out: dict[str, str] = {}
    for name in (codecs or _CODECS).split(","):
        name = name.strip()
        if name == "edgesem":
            subjects[name] = rd.edgesem_subject(bundle)
            continue
        whole = not name.endswith(("-half", "-quarter"))
        for size in wanted_sizes if whole else ["full"]:
            variant = name if size == "full" else f"{name}-{size}"
            try:
                subjects[variant] = baselines.baseline(variant)
            except MissingDependency as error:
                if codecs is not None:
                    raise
                left_out[variant] = str(error)
    return list(subjects.values()), left_out


def _processor() -> str:
    """The processor's name, as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or platform.machine()
