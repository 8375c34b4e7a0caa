"""Command `edgesem train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgesem.cli.console import emit, pairs
from edgesem.errors import UsageError
from export.cli.options import DeviceOption, JsonOption, PlotOption, ResumeOption, ThreadsOption
from export.cli.runs import given_options, plotted, shown_run


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
    decoder_int8: Annotated[
        Path | None,
        typer.Option(
            help="Train instead the base decoder of this run for int8: edgesem quantize --run makes the graph.",
            show_default=False,
        ),
    ] = None,
    only_decoder: Annotated[
        bool,
        typer.Option(
            "--only-decoder",
            help="Train only the base decoder of --start's codec: packets stay what they are.",
        ),
    ] = False,
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
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    plot: PlotOption = True,
    json_: JsonOption = False,
) -> None:
    """Train encoder, base decoder and context model together, or a flow decoder, references, another decoder.

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
    given: dict[str, Any] = {"data": str(data), "minutes": minutes, "seed": seed}
    given |= given_options(learning_rate=learning_rate, crop=crop, batch=batch)
    about: dict[str, Any] = {"ms_ssim": ms_ssim, "ssimulacra2": ssimulacra2, "start": start.name if start else ""}
    about |= given_options(None, lambda_low=lambda_low, lambda_high=lambda_high)
    kinds = {"--flow": flow, "--joint": joint, "--reference": reference, "--decoder-large": decoder_large}
    kinds["--decoder-int8"] = decoder_int8
    if len(asked := [kind for kind, folder in kinds.items() if folder is not None]) > 1:
        raise UsageError(f"one of {', '.join(kinds)} at a time, got {' and '.join(asked)}")
    if start_range is not None:
        if start is None or asked:
            raise UsageError("--start-range goes with --start and the training of a codec alone")
        if not 0 < start_range[0] < start_range[1]:
            raise UsageError(f"--start-range must be two rising weights, got {start_range[0]:g} {start_range[1]:g}")
    if only_decoder and (start is None or asked):
        raise UsageError("--only-decoder goes with --start and the training of a codec alone")
    if only_decoder and start_range is not None:
        raise UsageError("--start-range changes packets, which --only-decoder keeps: leave one of them out")
    if flow is not None:
        from export.training.flow import FlowConfig, train_flow

        config = FlowConfig(codec=str(flow.resolve()), **given)
        result = shown_run(lambda show: train_flow(config, out, start=start, progress=show, options=options))
    elif joint is not None:
        from export.training.joint import JointConfig, train_joint

        if lpips is None or start is None:
            raise UsageError("--joint needs the codec's weights (--start) and those of AlexNet's LPIPS (--lpips)")
        both = JointConfig(codec=str(out.resolve()), lpips=str(lpips), **given, **about)
        result = shown_run(lambda show: train_joint(both, start, joint, out, progress=show, options=options))
    elif reference is not None:
        from export.training.reference import ReferenceConfig, train_reference

        inter = ReferenceConfig(codec=str(reference.resolve()), clips=str(clips) if clips else None, **given)
        result = shown_run(lambda show: train_reference(inter, out, start=start, progress=show, options=options))
    elif decoder_large is not None:
        from export.training.large import LargeConfig, train_large

        large = LargeConfig(codec=str(decoder_large.resolve()), **given, **about)
        result = shown_run(lambda show: train_large(large, out, start=start, progress=show, options=options))
    elif decoder_int8 is not None:
        from export.training.int8 import Int8Config, train_int8

        rounding = Int8Config(codec=str(decoder_int8.resolve()), **given, **about)
        result = shown_run(lambda show: train_int8(rounding, out, start=start, progress=show, options=options))
    else:
        settings = TrainConfig(
            teacher=teacher and not only_decoder, start_range=start_range, only_decoder=only_decoder, **given, **about
        )
        result = shown_run(lambda show: train_codec(settings, out, start=start, progress=show, options=options))
    result = {"run": out, "minutes": minutes, "device": device_of(options).type, **result, **plotted(out, plot)}
    emit(result, json_, lambda r: pairs(r, "trained"))
