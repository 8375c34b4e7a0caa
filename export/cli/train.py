"""Commands `edgesem train` and `edgesem distill`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from edgesem.cli.console import emit, log, pairs, progress
from edgesem.errors import UsageError
from export.cli.options import DeviceOption, JsonOption

_LINE_S = 60.0  # between two lines of progress, where there is no terminal


DataOption = Annotated[Path, typer.Option(help="Folder of photographs, or a file of --pack.")]


def train(
    data: Annotated[
        Path | None, typer.Option(help="Folder of photographs, or a file of --pack.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; one that exists is continued.", show_default=False)
    ] = None,
    pack: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="DIR FILE",
            help="Only write the photographs of DIR to one FILE of at most 60 MB, which --data reads; no training.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, in all.")] = 60.0,
    teacher: Annotated[
        bool, typer.Option("--teacher/--board", help="With the teacher's encoder, or the board's alone.")
    ] = True,
    flow: Annotated[
        Path | None,
        typer.Option(help="Train a many-step flow decoder instead, on the codec of this run.", show_default=False),
    ] = None,
    joint: Annotated[
        Path | None,
        typer.Option(
            help="Let the codec of --start and the flow decoder of this run learn together.", show_default=False
        ),
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(help="AlexNet LPIPS weights (npz); --joint needs them.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Train instead what lets packets refer to earlier pictures, on the codec of this run.",
            show_default=False,
        ),
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="Folder of clips of still cameras, for --reference.", show_default=False)
    ] = None,
    decoder_large: Annotated[
        Path | None,
        typer.Option(
            help="Train instead a larger decoder for receivers that are computers, on the codec of this run.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, crops and noise.")] = 0,
    start: Annotated[
        Path | None,
        typer.Option(help="Weights (.safetensors) to start from.", show_default="the KLT of the photographs"),
    ] = None,
    start_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="--lambda-low and --lambda-high that --start was trained for, to move its qualities to this run's.",
            show_default="this run's",
        ),
    ] = None,
    ms_ssim: Annotated[
        float, typer.Option(min=0, max=1, help="Share of MS-SSIM in the distortion; 0 is all MSE.")
    ] = 0.6,
    ssimulacra2: Annotated[
        float, typer.Option(min=0, max=1, help="Part of MS-SSIM's share that goes to SSIMULACRA2.")
    ] = 0.0,
    lambda_low: Annotated[
        float | None, typer.Option(min=1e-6, help="Weight of distortion at quality 0.", show_default="0.00013")
    ] = None,
    lambda_high: Annotated[
        float | None, typer.Option(min=1e-6, help="The same at quality 1.", show_default="0.017")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="0.001")] = None,
    crop: Annotated[
        int | None,
        typer.Option(min=176, help="Side of the square crops, a multiple of 16.", show_default="192; 256 for a flow"),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops a step.", show_default="8; 4 with a flow")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.", show_default="the fastest in the first steps")
    ] = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run in --out that was begun with other settings.")
    ] = False,
    plot: Annotated[bool, typer.Option(help="Also draw the log as RUN/log.png at the end.")] = True,
    json_: JsonOption = False,
) -> None:
    """Train encoder, base decoder and context model together, or a flow decoder, references, or a large decoder.

    Stops by the clock, and goes on from its last checkpoint when called again.

    A run may go on on another device than it began on: its checkpoints fit both.

    Example: edgesem train --data photos --out run --minutes 60
    """
    if pack is not None:
        if data is not None or out is not None:
            raise UsageError("--pack only writes a file: leave out --data and --out, or --pack")
        from export.data.pack import pack as write_pack

        emit(write_pack(*pack), json_, lambda r: pairs(r, "packed"))
        return
    if data is None or out is None:
        raise UsageError("name the photographs with --data and the folder of the run with --out")
    from export.training.codec import TrainConfig
    from export.training.codec import train as train_codec
    from export.training.loop import RunOptions, device_of

    options = RunOptions(threads, resume, device)
    given = _given(learning_rate=learning_rate, crop=crop, batch=batch)
    kinds = {"--flow": flow, "--joint": joint, "--reference": reference, "--decoder-large": decoder_large}
    if len(asked := [kind for kind, folder in kinds.items() if folder is not None]) > 1:
        raise UsageError(f"one of {', '.join(kinds)} at a time, got {' and '.join(asked)}")
    if start_range is not None:
        if start is None or asked:
            raise UsageError("--start-range goes with --start and the training of a codec alone")
        if not 0 < start_range[0] < start_range[1]:
            raise UsageError(f"--start-range must be two rising weights, got {start_range[0]:g} {start_range[1]:g}")
    if flow is not None:
        from export.training.flow import FlowConfig, train_flow

        config = FlowConfig(data=str(data), codec=str(flow.resolve()), minutes=minutes, seed=seed, **given)
        result = _shown(lambda show: train_flow(config, out, start=start, progress=show, options=options))
    elif joint is not None:
        from export.training.joint import JointConfig, train_joint

        if lpips is None or start is None:
            raise UsageError("--joint needs the codec's weights (--start) and those of AlexNet's LPIPS (--lpips)")
        both = JointConfig(
            data=str(data),
            codec=str(out.resolve()),
            minutes=minutes,
            lpips=str(lpips),
            ms_ssim=ms_ssim,
            start=start.name,
            seed=seed,
            **given,
            **_given(None, lambda_low=lambda_low, lambda_high=lambda_high),
        )
        result = _shown(lambda show: train_joint(both, start, joint, out, progress=show, options=options))
    elif reference is not None:
        from export.training.reference import ReferenceConfig, train_reference

        about = ReferenceConfig(
            data=str(data),
            codec=str(reference.resolve()),
            minutes=minutes,
            clips=None if clips is None else str(clips),
            seed=seed,
            **given,
        )
        result = _shown(lambda show: train_reference(about, out, start=start, progress=show, options=options))
    elif decoder_large is not None:
        from export.training.large import LargeConfig, train_large

        given |= _given(None, lambda_low=lambda_low, lambda_high=lambda_high)
        large = LargeConfig(
            data=str(data),
            codec=str(decoder_large.resolve()),
            minutes=minutes,
            seed=seed,
            ms_ssim=ms_ssim,
            ssimulacra2=ssimulacra2,
            start=start.name if start else "",
            **given,
        )
        result = _shown(lambda show: train_large(large, out, start=start, progress=show, options=options))
    else:
        given |= _given(None, lambda_low=lambda_low, lambda_high=lambda_high)
        settings = TrainConfig(
            data=str(data),
            minutes=minutes,
            seed=seed,
            ms_ssim=ms_ssim,
            ssimulacra2=ssimulacra2,
            teacher=teacher,
            start=start.name if start else "",
            start_range=start_range,
            **given,
        )
        result = _shown(lambda show: train_codec(settings, out, start=start, progress=show, options=options))
    result = {"run": out, "minutes": minutes, "device": device_of(options).type, **result, **_plotted(out, plot)}
    emit(result, json_, lambda r: pairs(r, "trained"))


def distill(
    teacher: Annotated[Path, typer.Argument(help="Run folder of the teacher: of a codec, or with --flow of a flow.")],
    out: Annotated[Path, typer.Option(help="Folder of the student's run; one that exists is continued.")],
    data: DataOption,
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
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.", show_default="the fastest in the first steps")
    ] = None,
    device: DeviceOption = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run in --out that was begun with other settings.")
    ] = False,
    plot: Annotated[bool, typer.Option(help="Also draw the log as RUN/log.png at the end.")] = True,
    json_: JsonOption = False,
) -> None:
    """Teach the board's encoder what a teacher's knows, or a flow decoder to need few steps.

    All but the encoder stays the teacher's, so that every decoder serves both.

    Example: edgesem distill teacher --out student --data photos --minutes 20
    """
    from export.training.distill import DistillConfig
    from export.training.distill import distill as distill_encoder
    from export.training.loop import RunOptions, device_of

    options = RunOptions(threads, resume, device)
    given = _given(learning_rate=learning_rate, crop=crop, batch=batch)
    if flow:
        from export.training.flow import open_flow, train_flow

        if vision is not None:
            raise UsageError("--teacher is for the encoder: leave out --flow or --teacher")

        if lpips is None:
            raise UsageError("--flow learns what looks real from LPIPS features: name their weights with --lpips")
        given |= _given(None, mse_weight=mse_weight, critic_weight=critic_weight, projection_weight=projection_weight)
        if vgg is not None:
            given["vgg"] = str(vgg)
        _, old = open_flow(teacher)
        config = replace(old, data=str(data), lpips=str(lpips), minutes=minutes, seed=seed, **given)
        start = teacher / "weights.safetensors"
        result = _shown(lambda show: train_flow(config, out, start=start, progress=show, options=options))
    else:
        if vgg is not None or projection_weight is not None:
            raise UsageError("--vgg and --projection-weight are for a flow decoder: say --flow or leave them out")
        if vision is not None:
            from export.custom.hf import folder_of

            given["vision"] = str(folder_of(vision).resolve())
        settings = DistillConfig(data=str(data), minutes=minutes, seed=seed, ms_ssim=ms_ssim, **given)
        start = teacher / "weights.safetensors"
        result = _shown(lambda show: distill_encoder(settings, start, out, progress=show, options=options))
        if check is not None:
            from export.training.evaluate import loss_of_student

            result |= loss_of_student(teacher, out, check)
    result = {"run": out, "minutes": minutes, "device": device_of(options).type, **result, **_plotted(out, plot)}
    emit(result, json_, lambda r: pairs(r, "distilled"))


def _given(crop: int | None, **options: float | None) -> dict[str, Any]:
    """The options that were given, by name; the others are left to the defaults of the run's settings."""
    if crop is not None and crop % 16:
        raise UsageError(f"--crop must be a multiple of 16, got {crop}")
    return {name: value for name, value in {"crop": crop, **options}.items() if value is not None}


def _shown(work: Callable[[Callable[[float, dict[str, Any]], None]], Path]) -> dict[str, Any]:
    """Do the work of a run under a progress bar; the weights' file, threads, and the last figures that were shown.

    Where there is no terminal, a line a minute tells how far it is.
    """
    import torch

    last: dict[str, Any] = {}
    told_s = -math.inf
    with progress("reading photographs") as bar:

        def show(done: float, figures: dict[str, Any]) -> None:
            nonlocal told_s
            last.update(figures)
            text = "  ".join(f"{k} {v:.4g}" for k, v in figures.items())
            bar.update(done, what=text)
            if not log.is_terminal and time.monotonic() - told_s >= _LINE_S:
                told_s = time.monotonic()
                log.print(Text(f"{done:.1%}  {text}"), soft_wrap=True)

        weights = work(show)
    return {"weights": weights, "threads": torch.get_num_threads(), **last}


def _plotted(run: Path, wanted: bool) -> dict[str, Path]:
    if not wanted or not (run / "log.jsonl").stat().st_size:
        return {}
    from export.training.log_plot import plot_log

    return {"plot": plot_log(run)}
