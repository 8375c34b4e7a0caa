"""The commands train and export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edgesem.console import emit, log
from edgesem.errors import UsageError

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def train(
    data: Annotated[Path, typer.Option(help="Folder of photographs.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that exists is continued.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, in all.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of weights, crops and noise.")] = 0,
    start: Annotated[
        Path | None,
        typer.Option(help="Weights (.safetensors) to start from.", show_default="the KLT of the photographs"),
    ] = None,
    ms_ssim: Annotated[
        float, typer.Option(min=0, max=1, help="Share of MS-SSIM in the distortion; 0 is all MSE.")
    ] = 0.6,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    crop: Annotated[int, typer.Option(min=176, help="Side of the square crops, in pixels; a multiple of 16.")] = 192,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="all")] = None,
    plot: Annotated[bool, typer.Option(help="Also draw the log as RUN/log.png at the end.")] = True,
    json_: _Json = False,
) -> None:
    """Train encoder, base decoder and context model together on a folder of photographs.

    Stops by the clock, and goes on from its last checkpoint when called again.

    Example: edgesem train --data photos --out run --minutes 60
    """
    import torch

    from export.train import TrainConfig
    from export.train import train as run_training

    if crop % 16:
        raise UsageError(f"--crop must be a multiple of 16, got {crop}")
    if threads:
        torch.set_num_threads(threads)
    config = TrainConfig(
        data=str(data), minutes=minutes, seed=seed, ms_ssim=ms_ssim, learning_rate=learning_rate, crop=crop, batch=batch
    )
    last: dict[str, Any] = {}
    with _progress() as bar:
        task = bar.add_task("reading photographs", total=1.0)

        def show(done: float, figures: dict[str, Any]) -> None:
            last.update(figures)
            text = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
            bar.update(task, completed=done, description=text)

        weights = run_training(config, out, start=start, progress=show)
    result = {"run": out, "weights": weights, "minutes": minutes, **last}
    if plot and (out / "log.jsonl").stat().st_size:
        from export.log_plot import plot_log

        result["plot"] = plot_log(out)
    emit(result, json_, lambda r: _table(r, "trained"))


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; a bundle there is replaced.")],
    data: Annotated[
        Path | None, typer.Option(help="Photographs to fit the tables on.", show_default="those of the run")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Held-out photographs to measure quality on.", show_default="those of --data")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="the name of --out")] = None,
    json_: _Json = False,
) -> None:
    """Turn a training run into a bundle: ONNX graphs, fitted tables, and a manifest with measured quality.

    The context model is proven exact, and every graph must match its network on real pictures; if not, no bundle is
    left.

    Example: edgesem export run --out bundle
    """
    from export.pipeline import export_bundle, open_run

    source = data or Path(open_run(run)[1].data)
    with _progress() as bar:
        task = bar.add_task("reading photographs", total=1.0)
        manifest = export_bundle(
            run,
            out,
            source,
            check,
            name or out.name,
            lambda stage, done: bar.update(task, description=stage, completed=done),
        )
    emit({"bundle": out, **manifest}, json_, lambda r: _quality_table(r))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=log, transient=True)


def _table(result: Mapping[str, Any], title: str) -> Table:
    table = Table("", "", title=title, show_header=False)
    for name, value in result.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return table


def _quality_table(manifest: Mapping[str, Any]) -> Table:
    table = Table(
        "quality", "bpp", "PSNR dB", "MS-SSIM", title=f"{manifest['bundle']}: {manifest['quality']['pictures']}"
    )
    for point in manifest["quality"]["points"]:
        table.add_row(*(f"{point[name]:.4g}" for name in ("quality", "bpp", "psnr", "ms_ssim")))
    return table
