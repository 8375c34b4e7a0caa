"""Command `edgesem adapt`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgesem.cli.console import emit, log, progress
from edgesem.errors import InputError
from export.cli.background import DEFAULT_SIZE, SizeOption
from export.cli.bundle import identity_of
from export.cli.bundle_tables import quality_table
from export.cli.options import WEIGHTS, DeviceOption, JsonOption, SignOption, ThreadsOption, parsed_size

if TYPE_CHECKING:
    from edgesem.quality.metrics import Frame

_FRAMES = 200  # that are taken of a clip, spread over it
_MOST_HZ = 5.0
_CHECKED = 8  # pictures that gain and loss are measured on
_FOR_REFERENCES = 0.25  # share of the minutes


def adapt(
    data: Annotated[Path, typer.Option(help="Frames of the camera: a folder of pictures, or a clip.")],
    photographs: Annotated[Path, typer.Option(help="Photographs of other things, which keep the codec general.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; a bundle there is replaced.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, in all.")] = 20.0,
    check: Annotated[
        Path | None, typer.Option(help="Frames of another hour, to measure the gain on.", show_default="not measured")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Folder with codec.safetensors, and perhaps references.safetensors.",
            show_default="export/weights of the checkout",
        ),
    ] = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Train the encoder, too: what was made for it fits no more.")
    ] = False,
    size: SizeOption = DEFAULT_SIZE,
    target: Annotated[str, typer.Option(help="Board that it is for: x86, or one of `edgesem device list`.")] = "x86",
    int8: Annotated[bool, typer.Option(help="Add int8 forms where they pay.")] = True,
    sign: SignOption = None,
    seed: Annotated[int, typer.Option(help="Of crops and noise.")] = 0,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Teach the codec one camera's view, and make a bundle of it that `edgesem device deploy` carries.

    Decoder, gains, context model and references learn; what other pictures lose is measured and bounded. A picture of
    the place is added, as `edgesem add-background` does. The runs stay beside OUT, in .NAME.adapt, and go on when the
    command is called again. The bundle has no flow decoder and no semantic head: `edgesem distill --flow` and `edgesem
    align` make them.

    Example: edgesem adapt --data frames --photographs photos --out bundle --minutes 20
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.files import find_pictures, spread
    from export.bundle.background import CHECKED, add_background, camera_frames, saving
    from export.bundle.folder import check_replaceable
    from export.bundle.model import model_of_run
    from export.bundle.pipeline import Settings, export_model
    from export.data.crops import LEAST_CROP, fitting_crop
    from export.data.pack import training_pictures
    from export.graphs.targets import target_of
    from export.training.adapt import AdaptConfig, adapt_codec, bounded, gain
    from export.training.loop import RunOptions
    from export.training.reference import ReferenceConfig, train_reference

    fit = parsed_size(size)
    start = (weights or WEIGHTS) / "codec.safetensors"
    if not start.is_file():
        raise InputError(f"{start} is not there: call it in a checkout of edgesem, or name a folder with --weights")
    target_of(target)  # what is wrong is said before the training, not after it
    check_replaceable(out)
    if check is not None and check.is_dir():
        find_pictures(check)
    identity = identity_of(sign)
    work = out.parent / f".{out.name}.adapt"
    options = RunOptions(threads, device=device)
    referring = (weights or WEIGHTS) / "references.safetensors"
    share = _FOR_REFERENCES if referring.is_file() else 0.0
    with progress("reading frames") as bar:

        def show(stage: str, done: float) -> None:
            bar.update(done, what=stage)

        def of_run(stage: str, first: float, part: float, done: float, figures: dict[str, Any]) -> None:
            show(stage + "".join(f"  {name} {value:.4g}" for name, value in figures.items()), first + part * done)

        frames = _folder_of(data, work)
        held_out = None if check is None else _folder_of(check, work)
        crop = fitting_crop(frames, AdaptConfig.crop, least=LEAST_CROP)
        config = AdaptConfig(
            data=str(frames),
            crop=crop,
            photographs=str(photographs),
            minutes=minutes * (1 - share),
            encoder=encoder,
            seed=seed,
            start=start.name,
        )
        trained, codec = work / "trained", work / "codec"
        adapt_codec(
            config, start, trained, progress=lambda done, f: of_run("codec", 0, 1 - share, done, f), options=options
        )
        general = [frame for _, frame in training_pictures(photographs)]
        result: dict[str, Any] = {"adapted": bounded(trained, start, spread(general, _CHECKED), codec)}
        if held_out is not None:
            result["adapted"] |= gain(codec, start, _some(held_out))
        if share:
            about = ReferenceConfig(
                data=str(photographs),
                codec=str(codec),
                crop=crop,
                minutes=minutes * share,
                clips=str(data) if data.is_file() else None,
                pool=100,
                seed=seed,
            )
            train_reference(
                about,
                work / "references",
                start=referring,
                progress=lambda done, f: of_run("references", 1 - share, share, done, f),
                options=options,
            )
        model = model_of_run(codec, reference=work / "references" if share else None)
        forms = ("encoder", "decoder") if int8 else ()
        manifest = export_model(model, out, Settings(out.name, frames, held_out, target, forms), show, identity)
        if share:
            try:
                result |= add_background(Bundle.open(out), camera_frames(frames, fit), out, show, identity)
                manifest |= Bundle.open(out).manifest  # with other files and another signature than before
            except InputError as error:
                log.print(f"no background picture: {error}", markup=False)
        if held_out is not None:
            seen = camera_frames(held_out, fit, CHECKED)
            result["check"] = {"frames": len(seen), **saving(Bundle.open(out), seen, Bundle.open(), show)}
    log.print(f"adapted: {result['adapted']}", markup=False)
    if "check" in result:
        log.print(f"keyframes, against the bundle that ships: {result['check']}", markup=False)
    emit({**manifest, "bundle": out, **result}, json_, quality_table)


def _folder_of(data: Path, work: Path) -> Path:
    """The folder of pictures itself, or one in `work` with frames of a clip, spread over its time.

    The frames of a clip are written once, all or none: another clip by the same name gets a folder of its own.
    """
    if data.is_dir():
        return data
    from edgesem.bundle.manifest import digest_of
    from edgesem.files import write_picture
    from edgesem.video import video_info
    from export.data.clips import read_clip

    duration_s = video_info(data).duration_s or _FRAMES / _MOST_HZ
    folder = work / f"frames-{digest_of(data)[:16]}"
    if not folder.exists():
        frames, _ = read_clip(data, rate_hz=min(_MOST_HZ, _FRAMES / duration_s), most=_FRAMES)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for index, frame in enumerate(frames):
            write_picture(frame, part / f"{index:04}.png")
        part.rename(folder)
    return folder


def _some(folder: Path) -> list[Frame]:
    """At most _CHECKED pictures of a folder, spread over it."""
    from edgesem.files import find_pictures, read_picture

    paths = find_pictures(folder)
    return [read_picture(path) for path in paths[:: -(-len(paths) // _CHECKED)]]
