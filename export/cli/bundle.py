"""Commands that make, change and check bundles: export, quantize, verify, engine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgesem.cli.console import emit, log
from edgesem.errors import BundleError, EdgesemError, UsageError
from export.cli.bundle_tables import engine_table, quality_table, quantize_table, verify_table
from export.cli.options import JsonOption, SignOption, own_bundle, stage_progress

if TYPE_CHECKING:
    from edgesem.packet.keys import Identity
    from edgesem.quality.metrics import Frame

_Data = Annotated[Path | None, typer.Option(help="Folder of real pictures.", show_default=False)]
_PICTURES = 48


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="Folder of a training run, or own model: .toml or .py.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write; a bundle there is replaced.")],
    data: Annotated[
        Path | None, typer.Option(help="Photographs to fit the tables on.", show_default="those of the run")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Held-out photographs to measure quality on.", show_default="those of --data")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.", show_default="the name of --out")] = None,
    target: Annotated[str, typer.Option(help="Board that it is for: x86, or one of `edgesem device list`.")] = "x86",
    flow: Annotated[Path | None, typer.Option(help="Run of a flow decoder to add.", show_default="none")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Run of train --reference to add: packets may refer to earlier ones.", show_default="none"),
    ] = None,
    decoder_large: Annotated[
        Path | None,
        typer.Option(
            help="Run of train --decoder-large to add, for receivers that are computers.", show_default="none"
        ),
    ] = None,
    vision: Annotated[
        str | None,
        typer.Option(
            metavar="hf:FOLDER", help="Hugging Face vision encoder to add, for embeddings.", show_default="none"
        ),
    ] = None,
    int8: Annotated[bool, typer.Option(help="Add int8 forms where they pay.")] = True,
    int8_percent: Annotated[float, typer.Option(min=0, help="Rate that an int8 form may cost, in percent.")] = 1.0,
    resume: Annotated[
        bool, typer.Option(help="Go on from a stopped export, and do again only what a change asks for.")
    ] = False,
    sign: SignOption = None,
    json_: JsonOption = False,
) -> None:
    """Turn a training run, or your own networks, into a bundle: graphs, fitted tables, int8 forms, measured quality.

    The context model is proven exact, and every graph must match its network on real pictures; if not, no bundle is
    left.

    Example: edgesem export run --out bundle --target raspberry-pi-5
    """
    from edgesem.files import find_pictures
    from export.bundle.custom_model import model_of_file
    from export.bundle.folder import check_replaceable, work_folder
    from export.bundle.model import model_of_run
    from export.bundle.pipeline import Settings, export_model
    from export.custom.hf import folder_of
    from export.data.pack import picture_folder
    from export.graphs.targets import target_of
    from export.training.codec import open_run

    if any(run is not None for run in (flow, reference, decoder_large)) and source.suffix in (".toml", ".py"):
        raise UsageError(
            "--flow, --reference and --decoder-large belong to the codec of a training run, not to an own model"
        )

    # What can be known to fail is said before minutes of work.
    check_replaceable(out)
    target_of(target)
    identity = identity_of(sign)
    with stage_progress("reading photographs") as show:
        if check is not None:
            with picture_folder(check) as checked:
                find_pictures(checked)
        if source.suffix in (".toml", ".py"):
            if data is None:
                raise UsageError("an own model needs pictures to fit the tables and the context model: name --data")
            context = work_folder(out) / "context.pt"
            if not resume:
                context.unlink(missing_ok=True)
            model = model_of_file(source, data, show, context)
        else:
            data = data or Path(open_run(source)[1].data)
            model = model_of_run(source, flow, reference, decoder_large)
        if vision is not None:
            model = model.with_vision(folder_of(vision))
        settings = Settings(
            name or out.name,
            data,
            check,
            target,
            ("encoder", "decoder") if int8 else (),
            int8_percent,
            resume,
        )
        try:
            manifest = export_model(model, out, settings, show, identity)
        except KeyboardInterrupt:
            log.print("stopped; the same command with --resume goes on from here")
            raise
    emit({"bundle": out, **manifest}, json_, quality_table)


def quantize(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle; the int8 form is put into it.")],
    data: _Data = None,
    part: Annotated[str, typer.Option(help="encoder or decoder.")] = "encoder",
    profile: Annotated[
        str, typer.Option(help="cpu: U8S8 for ONNX Runtime; tensorrt: S8S8, symmetric, for TensorRT.")
    ] = "cpu",
    backend: Annotated[str, typer.Option(help="ort, or optimum: the ORTQuantizer (encoder only).")] = "ort",
    run: Annotated[
        Path | None,
        typer.Option(help="Run of train --decoder-int8: that decoder, with its ranges.", show_default="none"),
    ] = None,
    percent: Annotated[float, typer.Option(min=0, help="Rate that it may cost, in percent.")] = 2.0,
    sign: SignOption = None,
    json_: JsonOption = False,
) -> None:
    """Give a bundle an int8 form of its encoder or decoder, with as few layers left in float as the target needs.

    Ranges come from real pictures, never from noise. The report ranks the layers by what rounding each alone costs.

    With --run it is the decoder of a training run, with its ranges, and no layers are ranked.

    Example: edgesem quantize bundle --data photos
    """
    from edgesem.bundle.bundle import Bundle
    from export.bundle.folder import change, check_signed
    from export.bundle.int8_decoder import quantize_run
    from export.bundle.model import history_of
    from export.quantization.forms import evaluation_pieces, feeds, quantize_part, speedup
    from export.quantization.quantize import PROFILES
    from export.quantization.replacement_cost import CostMeter

    if data is None:
        raise UsageError("quantization needs real pictures to calibrate on: name a folder with --data")
    if profile not in PROFILES:
        raise UsageError(f"--profile must be {' or '.join(PROFILES)}, got {profile!r}")
    if backend not in ("ort", "optimum") or part not in ("encoder", "decoder"):
        raise UsageError("--backend must be ort or optimum, and --part encoder or decoder")
    if backend == "optimum" and part != "encoder":
        raise UsageError("optimum's quantizer is for graphs of one input: use --backend ort for the decoder")
    if run is not None and (part, profile, backend) != ("decoder", "cpu", "ort"):
        raise UsageError("--run is for --part decoder, --profile cpu and --backend ort")
    opened, identity = Bundle.open(own_bundle(bundle)), identity_of(sign)
    check_signed(opened, identity)
    frames = calibration_frames(data)
    form = PROFILES[profile]
    name = f"{part}{form.suffix}.onnx"
    with TemporaryDirectory() as folder, stage_progress("quantizing") as show:
        try:
            trial, plain = Path(folder) / name, opened.folder / f"{part}.onnx"
            meter = CostMeter(opened, evaluation_pieces(frames))
            if run is not None:
                result = quantize_run(run, plain, trial, meter, percent, show)
            else:
                result = quantize_part(
                    opened,
                    part,
                    trial,
                    frames,
                    meter,
                    profile=form,
                    target_percent=percent,
                    backend=backend,
                    always_rank=True,
                    progress=show,
                )
            found = result.report() | ({"history": history_of(run)} if run is not None else {})
            if profile == "cpu":
                found["speedup_here"] = round(speedup(plain, trial, feeds(opened, part, frames[:1])[0]), 2)
            if result.met:
                key = "int8" if profile == "cpu" else "tensorrt"
                entry = {(part if profile == "cpu" else name): {"kept": True, **found}}
                before = opened.manifest.get(key)
                forms = {**before, **entry} if isinstance(before, dict) else entry
                change(opened, {name: trial}, {key: forms}, identity)
        except (EdgesemError, OSError):
            raise
        except Exception as error:  # each library lets out its own errors of a damaged graph
            raise BundleError(f"{bundle}: its {part} cannot be quantized: {type(error).__name__}: {error}") from error
    report = {"bundle": bundle, "graph": name, "backend": backend, **found}
    emit(report, json_, quantize_table)
    if not result.met:
        _fail(f"int8 costs {result.cost.percent:.2f} % of rate, more than {percent:g} %: nothing was written")


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    data: _Data = None,
    target: Annotated[
        str | None, typer.Option(help="Board that it is for.", show_default="what it was exported for")
    ] = None,
    trust: Annotated[
        str | None, typer.Option(help="Public key, in hex, that must have signed it.", show_default="any")
    ] = None,
    tensorrt: Annotated[bool, typer.Option(help="Also build every graph with TensorRT-RTX (no GPU needed).")] = False,
    percent: Annotated[float, typer.Option(min=0, help="Rate that any other form may cost, in percent.")] = 2.0,
    packets: Annotated[int, typer.Option(min=1, help="Packets that all ways to run the model must read alike.")] = 24,
    json_: JsonOption = False,
) -> None:
    """Check all that a bundle promises: digests, signature, format, exactness, golden packets, parity of its forms.

    Exit code 1 if a check fails.

    Example: edgesem verify bundle --data photos --tensorrt
    """
    from edgesem.bundle.bundle import Bundle
    from export.bundle.verify import verify as run_checks
    from export.graphs.targets import target_of

    if target is None:
        try:
            target = str(Bundle.open(bundle).manifest.get("target", "x86"))
        except BundleError:
            target = "x86"  # the first check will say what is wrong
    aim = target_of(target)
    frames = calibration_frames(data) if data else []
    with stage_progress("verifying") as show:
        checks = run_checks(
            bundle,
            target=aim,
            frames=frames,
            trusted=trust,
            tensorrt=tensorrt,
            limit_percent=percent,
            packets=packets,
            progress=show,
        )
    failed = [check.name for check in checks if check.ok is False]
    rows = {c.name: {"ok": c.ok, "seconds": c.seconds, **c.findings} for c in checks}
    emit({"bundle": bundle, "ok": not failed, "target": target, "checks": rows}, json_, verify_table)
    if failed:
        _fail(f"{bundle}: {', '.join(failed)} failed")


def engine(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle that was exported for a Jetson.")],
    size: Annotated[str, typer.Option(help="Usual size of the camera's pictures.")] = "640x480",
    json_: JsonOption = False,
) -> None:
    """Build this board's own TensorRT engines from a bundle, once; they are kept and found again by what they fit.

    Needs the GPU that will run them. Without one, `edgesem verify BUNDLE --tensorrt` says whether the graphs build.

    Example: edgesem engine bundle --size 1280x720
    """
    from edgesem.bundle.bundle import Bundle
    from edgesem.engine_build import Sizes, build_engines

    with stage_progress("building") as show:
        rows = build_engines(Bundle.open(bundle), Sizes.of(size), progress=show)
    emit({"bundle": bundle, "size": size, "engines": rows}, json_, engine_table)


def _fail(message: str) -> NoReturn:
    """End with exit code 1; the report that says all is on stdout already."""
    log.print(f"error: {message}", style="bold red", soft_wrap=True, markup=False)
    raise typer.Exit(1)


def calibration_frames(data: Path) -> list[Frame]:
    """Up to _PICTURES pictures of a folder, spread over it, cut to what calibration needs."""
    import numpy as np

    from edgesem.files import find_pictures, spread
    from export.data.pictures import readable_pictures

    chosen = spread(find_pictures(data), _PICTURES)
    return [np.ascontiguousarray(frame[:384, :384]) for _, frame in readable_pictures(chosen)]


def identity_of(path: Path | None) -> Identity | None:
    """The signing key in a file; None for none. Raises InputError for a file that holds no key."""
    from edgesem.packet.keys import Identity, read_key

    seed = None if path is None else read_key(path)
    return None if seed is None else Identity(seed)
