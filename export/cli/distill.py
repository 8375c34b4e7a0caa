"""Command `edgesem distill`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import emit, pairs
from edgesem.errors import UsageError
from export.cli.options import DeviceOption, JsonOption, PlotOption, ResumeOption, ThreadsOption
from export.cli.runs import given_options, plotted, shown_run


def distill(
    teacher: Annotated[Path, typer.Argument(help="Run folder of the teacher: of a codec, or with --flow of a flow.")],
    out: Annotated[Path, typer.Option(help="Folder of the student's run; one that exists is continued.")],
    data: Annotated[Path, typer.Option(help="Folder of photographs, or a file of `edgesem train --pack`.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, in all.")] = 20.0,
    flow: Annotated[
        bool, typer.Option("--flow", help="Make a flow decoder of 1 to 4 steps from a many-step one.")
    ] = False,
    lpips: Annotated[Path | None, typer.Option(help="AlexNet LPIPS weights (npz); --flow needs them.")] = None,
    vgg: Annotated[
        Path | None,
        typer.Option(
            help="--flow: VGG16 weights (npz), to compare the local statistics of its features as well.",
            show_default="as before",
        ),
    ] = None,
    projection_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="--flow: Weight of local statistics of random filters, which nothing can learn by heart; 10 is usual.",
            show_default="as before",
        ),
    ] = None,
    vision: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="hf:FOLDER",
            help="Hugging Face vision encoder (ViT, CLIP, SigLIP ...) to learn features from as well.",
            show_default=False,
        ),
    ] = None,
    mse_weight: Annotated[
        float | None,
        typer.Option(
            min=0, help="--flow: squared error beside LPIPS. More is truer, less is sharper.", show_default="as before"
        ),
    ] = None,
    critic_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="--flow: Weight of the critic, which tells drawn pictures from real ones.",
            show_default="as before",
        ),
    ] = None,
    ms_ssim: Annotated[float, typer.Option(min=0, max=1, help="Share of MS-SSIM in the distortion.")] = 0.6,
    check: Annotated[
        Path | None, typer.Option(help="Photographs on which to report what the student loses.", show_default=False)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="0.0005")] = None,
    crop: Annotated[int | None, typer.Option(min=176, help="As of train.", show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="As of train.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of crops and noise.")] = 0,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    plot: PlotOption = True,
    json_: JsonOption = False,
) -> None:
    """Teach the board's encoder what a teacher's knows, or a flow decoder to need few steps.

    All but the encoder stays the teacher's, so that every decoder serves both.

    Example: edgesem distill teacher --out student --data photos --minutes 20
    """
    from edgesem.files import find_pictures, read_picture
    from export.training.distill import DistillConfig
    from export.training.distill import distill as distill_encoder
    from export.training.loop import RunOptions, device_of

    if flow and check is not None:
        raise UsageError("--check measures an encoder, and --flow trains none: leave out one of them")
    frames = [] if check is None else [read_picture(path) for path in find_pictures(check)]
    options = RunOptions(threads, resume, device)
    given: dict[str, Any] = {"data": str(data), "minutes": minutes, "seed": seed}
    given |= given_options(learning_rate=learning_rate, crop=crop, batch=batch)
    start = teacher / "weights.safetensors"
    if flow:
        from export.training.flow import open_flow, train_flow

        if vision is not None:
            raise UsageError("--teacher is for the encoder: leave out --flow or --teacher")
        if lpips is None:
            raise UsageError("--flow learns what looks real from LPIPS features: name their weights with --lpips")
        given |= given_options(
            None, mse_weight=mse_weight, critic_weight=critic_weight, projection_weight=projection_weight
        )
        if vgg is not None:
            given["vgg"] = str(vgg)
        config = replace(open_flow(teacher)[1], lpips=str(lpips), **given)
        result = shown_run(lambda show: train_flow(config, out, start=start, progress=show, options=options))
    else:
        if vgg is not None or projection_weight is not None:
            raise UsageError("--vgg and --projection-weight are for a flow decoder: say --flow or leave them out")
        if vision is not None:
            from export.custom.hf import folder_of

            given["vision"] = str(folder_of(vision).resolve())
        settings = DistillConfig(ms_ssim=ms_ssim, **given)
        result = shown_run(lambda show: distill_encoder(settings, start, out, progress=show, options=options))
        if frames:
            from export.training.codec import open_run
            from export.training.evaluate import bd_rates

            result |= bd_rates(open_run(teacher)[0], open_run(out)[0], frames)
    result = {"run": out, "minutes": minutes, "device": device_of(options).type, **result, **plotted(out, plot)}
    emit(result, json_, lambda r: pairs(r, "distilled"))
